//! Packets in files.
