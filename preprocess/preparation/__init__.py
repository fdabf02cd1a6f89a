"""Optional steps before a scan is resampled: coil shading, rigid registration, a brain mask, a look for faces."""
