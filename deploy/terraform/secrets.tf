# The keys themselves are added by hand, so that they never stand in a state file:
#   openssl rand -base64 24 | gcloud secrets versions add interscan-api-keys --data-file=-
resource "google_secret_manager_secret" "api_keys" {
  secret_id = "interscan-api-keys"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }
}

resource "google_secret_manager_secret_iam_member" "app" {
  secret_id = google_secret_manager_secret.api_keys.id
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${google_service_account.role["app"].email}"
}
