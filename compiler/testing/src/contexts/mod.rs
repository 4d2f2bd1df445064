//! Contexts of programs by the names of their fields.
