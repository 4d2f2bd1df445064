//! The provider that offers the program type of instruction tests: a context with data pointers, nothing else.

use std::sync::LazyLock;

use bpf2sys_platform::Platform;

/// File name and text, for the platform and for the simulator.
pub(crate) const FILE: (&str, &str) = ("provider.toml", include_str!("provider.toml"));

/// The section that programs of the type are in.
pub(crate) const SECTION: &str = "instruction_test";

/// Offset of the pointer to the memory in the context, and of the one behind its end.
pub(crate) const DATA: i16 = 0;
/// See [`DATA`].
pub(crate) const DATA_END: i16 = 8;

/// The helper that returns its first argument, and that the program does not return from when that is 0.
pub(crate) const UNWIND: u32 = 5;

/// The built-in platform and this provider.
pub(crate) fn platform() -> &'static Platform {
    static PLATFORM: LazyLock<Platform> = LazyLock::new(|| {
        let files: Vec<(&str, &str)> = Platform::builtin_files().iter().copied().chain([FILE]).collect();
        Platform::from_toml(&files).expect("the provider's file is part of this package, and every run loads it")
    });
    &PLATFORM
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_section_selects_the_type_with_the_pointers_where_programs_look() {
        let (program_type, attach) = super::platform().program_type_for_section(super::SECTION).unwrap();
        assert_eq!(
            (program_type.name.as_str(), attach.prefix.as_str()),
            ("instruction_test", super::SECTION)
        );
        let context = &program_type.context;
        let expected = [16, i32::from(super::DATA), i32::from(super::DATA_END)];
        assert_eq!([context.size, context.data, context.data_end], expected);
    }
}
