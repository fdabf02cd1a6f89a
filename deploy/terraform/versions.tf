# What a project on Google Cloud needs for interscan: buckets, one service account a role, a registry, the service, secrets, alerts
# and a budget.
#
#   cd deploy/terraform && terraform init && terraform apply -var project=$PROJECT -var region=$REGION -var billing_account=$BILLING
#
# Cost: buckets by the GB (the raw scans are most of it), the service by the second; var.monthly_budget warns at 50, 90 and 100 %.
terraform {
  required_version = ">= 1.6"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}
