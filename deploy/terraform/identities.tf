# One service account a role, with the least that its verbs need.
# objectViewer lacks storage.buckets.get; no verb asks for it.
locals {
  roles = {
    preprocess = "Reads raw scans, writes stores"
    trainer    = "Reads stores, writes runs and models"
    app        = "Reads models, and scans that requests name"
  }

  grants = {
    preprocess_scans  = { account = "preprocess", bucket = "scans", role = "roles/storage.objectViewer" }
    preprocess_stores = { account = "preprocess", bucket = "stores", role = "roles/storage.objectUser" }
    trainer_stores    = { account = "trainer", bucket = "stores", role = "roles/storage.objectViewer" }
    trainer_runs      = { account = "trainer", bucket = "runs", role = "roles/storage.objectUser" }
    trainer_models    = { account = "trainer", bucket = "models", role = "roles/storage.objectUser" }
    app_models        = { account = "app", bucket = "models", role = "roles/storage.objectViewer" }
    app_scans         = { account = "app", bucket = "scans", role = "roles/storage.objectViewer" }
  }
}

resource "google_service_account" "role" {
  for_each = local.roles

  account_id   = "interscan-${each.key}"
  display_name = each.value
}

resource "google_storage_bucket_iam_member" "grant" {
  for_each = local.grants

  bucket = google_storage_bucket.bucket[each.value.bucket].name
  role   = each.value.role
  member = "serviceAccount:${google_service_account.role[each.value.account].email}"
}

resource "google_project_iam_member" "logs" {
  for_each = local.roles

  project = var.project
  role    = "roles/logging.logWriter"
  member  = "serviceAccount:${google_service_account.role[each.key].email}"
}
