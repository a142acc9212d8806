//! Containers: records, the writable layer, running through an OCI runtime.
