//! Bytes of maps and events by their types in the C source.
