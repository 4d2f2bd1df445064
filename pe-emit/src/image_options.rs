//! What a caller can choose about an image.

use crate::version_info::VersionInfo;

/// Choices about an image that its code does not depend on. `Default` is none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// Have Windows check the image's signature whenever it loads it (`IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY`), also where
    /// it would not. An image that is not signed, or whose certificate the system does not trust, does not load then.
    pub force_integrity: bool,
    /// What the version resource says; `None` for no resource.
    pub version_info: Option<VersionInfo>,
}
