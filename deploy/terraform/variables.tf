variable "project" {
  description = "Project id."
  type        = string
}

variable "region" {
  description = "Region of buckets, registry and service; training elsewhere pays for every byte that leaves it."
  type        = string
  default     = "europe-west4"
}

variable "billing_account" {
  description = "Billing account that the budget watches."
  type        = string
}

variable "monthly_budget" {
  description = "Whole units of the billing account's currency a month."
  type        = number
  default     = 500
}

variable "alert_email" {
  description = "Who is told of alerts and of the budget."
  type        = string
}

variable "image_version" {
  description = "Tag of the three images; never `latest`, so that a rollback is a change of this line."
  type        = string
  default     = "0.1.0"
}

variable "artefact" {
  description = "Artefact that is served, below the bucket of models; changing it back is the rollback of a model."
  type        = string
  default     = "demo/1"
}

variable "secret_version" {
  description = "Version of the secret with the API keys; pinned, so that a rotation is a change of this line."
  type        = string
  default     = "1"
}

variable "retention_days" {
  description = "Days during which no raw scan can be deleted or replaced; 0 for none. Deletion on a person's request must then wait."
  type        = number
  default     = 0
}

variable "kms_key" {
  description = "Customer-managed key for the buckets (projects/.../cryptoKeys/...); Google's own when null."
  type        = string
  default     = null
}
