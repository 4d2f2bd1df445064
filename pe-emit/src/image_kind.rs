//! The kinds of image, and what differs between their headers.

use object::pe::{
    FileFlags, IMAGE_FILE_DLL, IMAGE_FILE_EXECUTABLE_IMAGE, IMAGE_FILE_LARGE_ADDRESS_AWARE, IMAGE_SCN_MEM_NOT_PAGED,
    IMAGE_SUBSYSTEM_NATIVE, IMAGE_SUBSYSTEM_WINDOWS_GUI, SectionFlags, Subsystem,
};

use crate::error::LinkError;
use crate::native_object::Purpose;

/// What kind of image is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageKind {
    /// Runs in the kernel.
    Driver,
    /// Is loaded into a process of user mode.
    Dll,
}

impl ImageKind {
    /// The kind of image that an object is to become.
    pub(crate) fn of(purpose: &Purpose) -> Result<Self, LinkError> {
        match purpose {
            Purpose::Driver { .. } => Ok(Self::Driver),
            Purpose::Dll { .. } => Ok(Self::Dll),
            Purpose::Object { .. } => Err(LinkError::NotAnImage),
        }
    }

    /// The preferred load address: what Microsoft's linker takes by default for 64-bit programs and libraries. Every
    /// virtual address in the file is this plus an RVA; Windows loads all of them elsewhere.
    pub(crate) const fn base(self) -> u64 {
        match self {
            Self::Driver => 0x1_4000_0000,
            Self::Dll => 0x1_8000_0000,
        }
    }

    /// Characteristics of the file header. Not `RELOCS_STRIPPED`, even if there is nothing to relocate: nothing loads at
    /// its preferred base.
    pub(crate) fn characteristics(self) -> FileFlags {
        let image = IMAGE_FILE_EXECUTABLE_IMAGE | IMAGE_FILE_LARGE_ADDRESS_AWARE;
        match self {
            Self::Driver => image,
            Self::Dll => image | IMAGE_FILE_DLL,
        }
    }

    /// The subsystem. Of a library only NATIVE would mean something, that it is not for ordinary processes; Windows GUI is
    /// the default of Microsoft's linker.
    pub(crate) fn subsystem(self) -> Subsystem {
        match self {
            Self::Driver => IMAGE_SUBSYSTEM_NATIVE,
            Self::Dll => IMAGE_SUBSYSTEM_WINDOWS_GUI,
        }
    }

    /// Versions of operating system and subsystem, and of the image. Those of a driver are the WDK's. Those of a library are
    /// the defaults of Microsoft's linker: a higher number would only keep out systems on which the code would run.
    pub(crate) fn versions(self) -> (u16, u16) {
        match self {
            Self::Driver => (10, 10),
            Self::Dll => (6, 0),
        }
    }

    /// What every section is marked with beside its protection.
    pub(crate) fn section_flags(self) -> SectionFlags {
        match self {
            // Programs run at DISPATCH_LEVEL.
            Self::Driver => IMAGE_SCN_MEM_NOT_PAGED,
            // Has no meaning in user mode.
            Self::Dll => SectionFlags(0),
        }
    }

    /// What the DOS program prints, with its end mark `$` and padding.
    pub(crate) const fn dos_message(self) -> &'static [u8; 42] {
        match self {
            Self::Driver => b"This is a driver of 64-bit Windows.\r\n$\0\0\0\0",
            Self::Dll => b"This is a library of 64-bit Windows.\r\n$\0\0\0",
        }
    }
}
