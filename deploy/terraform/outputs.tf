output "service" {
  description = "Address of the service, inside the network or behind a load balancer."
  value       = google_cloud_run_v2_service.app.uri
}

output "buckets" {
  description = "Buckets by purpose."
  value       = { for purpose, bucket in google_storage_bucket.bucket : purpose => "gs://${bucket.name}" }
}

output "registry" {
  description = "Where images are pushed."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "service_accounts" {
  description = "One a role."
  value       = { for role, account in google_service_account.role : role => account.email }
}
