resource "google_cloud_run_v2_service" "app" {
  name                = "interscan"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
  deletion_protection = true

  template {
    service_account                  = google_service_account.role["app"].email
    timeout                          = "120s"
    max_instance_request_concurrency = 8

    scaling {
      min_instance_count = 0
      max_instance_count = 10
    }

    containers {
      image = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}/app:${var.image_version}"
      args = [
        "serve",
        "gs://${google_storage_bucket.bucket["models"].name}/${var.artefact}",
        "--allow-prefix",
        "gs://${google_storage_bucket.bucket["scans"].name}/",
      ]

      ports {
        container_port = 8000
      }

      env {
        name  = "FSSPEC_GS_TOKEN"
        value = "google_default"
      }

      env {
        name = "INTERSCAN_API_KEYS"
        value_source {
          secret_key_ref {
            secret  = google_secret_manager_secret.api_keys.secret_id
            version = var.secret_version
          }
        }
      }

      resources {
        limits = {
          cpu    = "2"
          memory = "4Gi"
        }
        startup_cpu_boost = true
      }

      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 90
        http_get {
          path = "/readyz"
        }
      }

      liveness_probe {
        period_seconds  = 10
        timeout_seconds = 5
        http_get {
          path = "/livez"
        }
      }
    }
  }

  depends_on = [google_secret_manager_secret_iam_member.app, google_storage_bucket_iam_member.grant]
}
