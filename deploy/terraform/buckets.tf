# One bucket a purpose, since roles are given a bucket: whoever serves models cannot read raw scans unless it must.
locals {
  buckets = {
    scans  = { versioning = true, delete_versions_after_days = 30 }
    stores = { versioning = false, delete_versions_after_days = 7 }
    runs   = { versioning = false, delete_versions_after_days = 7 }
    models = { versioning = true, delete_versions_after_days = 365 }
  }
}

resource "google_storage_bucket" "bucket" {
  for_each = local.buckets

  name                        = "${var.project}-interscan-${each.key}"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  versioning {
    enabled = each.value.versioning
  }

  lifecycle_rule {
    condition {
      days_since_noncurrent_time = each.value.delete_versions_after_days
    }
    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      age = 7
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  dynamic "retention_policy" {
    for_each = each.key == "scans" && var.retention_days > 0 ? [var.retention_days] : []
    content {
      retention_period = retention_policy.value * 86400
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}
