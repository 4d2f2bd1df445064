//! What Linux offers to programs, in the terms in which Windows is described.

use std::sync::{Arc, LazyLock};

use bpf2sys_platform::{Platform, PlatformError};

use crate::rules;

/// Tables of the core's file that say what Windows offers. The rest is of the verifier.
const OF_WINDOWS: [&str; 4] = ["helper", "map_type", "btf_function", "structure"];

static LINUX: LazyLock<Platform> =
    LazyLock::new(|| load().expect("the description is part of the program, and a test loads it"));

/// Linux: the program types that Windows has, too, with the contexts, helpers and map types that they have there. Programs for Linux
/// are verified against it.
pub fn linux() -> &'static Platform {
    &LINUX
}

fn load() -> Result<Platform, PlatformError> {
    let core = Platform::builtin_files()[0].1;
    let mut core: toml::Table = toml::from_str(core).expect("the core's file is part of the program");
    for table in OF_WINDOWS {
        core.remove(table);
    }
    let core = core.to_string();
    let mut platform =
        Platform::from_toml(&[("core.toml", &core), ("linux.toml", include_str!("../data/linux.toml"))])?;
    for program_type in &mut platform.program_types {
        let rules = rules::context(&program_type.name);
        debug_assert_eq!(
            rules.map(|rules| rules.size),
            Some(program_type.context.size.unsigned_abs())
        );
        if let Some(pointers) = rules.and_then(|rules| rules.pointers) {
            let context = &mut Arc::make_mut(program_type).context;
            (context.data, context.data_end, context.data_meta) =
                (pointers.data, pointers.data_end, pointers.data_meta);
        }
    }
    Ok(platform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_have_contexts_and_helpers_of_linux() {
        let platform = linux();
        let (xdp, _) = platform.program_type_for_section("xdp").unwrap();
        assert_eq!((xdp.context.size, xdp.context.data, xdp.context.data_end), (24, 0, 4));
        assert_eq!(platform.helper(xdp, 5).unwrap().name, "bpf_ktime_get_ns");
        assert_eq!(platform.map_type(27).unwrap().name, "ringbuf");
        assert!(platform.program_type_for_section("bind").is_none());
        for helper in &platform.helpers {
            assert_eq!(
                bpf2sys_platform::linux_helper_name(helper.id),
                Some(helper.name.as_str())
            );
        }
    }
}
