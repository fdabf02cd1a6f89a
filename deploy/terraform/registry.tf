resource "google_artifact_registry_repository" "images" {
  repository_id = "interscan"
  location      = var.region
  format        = "DOCKER"
  description   = "Images app, trainer and preprocess"

  docker_config {
    immutable_tags = true
  }
}

resource "google_artifact_registry_repository_iam_member" "reader" {
  for_each = local.roles

  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.reader"
  member     = "serviceAccount:${google_service_account.role[each.key].email}"
}
