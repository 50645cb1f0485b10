//! Enforces the architecture (see src/README.md).
