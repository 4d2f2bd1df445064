//! Questions to a [`Platform`].

use std::sync::Arc;

use crate::Guid;
use crate::model::{AttachPoint, BtfFunction, Helper, MapType, Platform, ProgramType, UndescribedSection};

impl ProgramType {
    /// Whether a helper that programs of this type can name is there when one is loaded: by the runtime, or by the type's
    /// provider (native module contract §4.6), and at an address that the runtime finds.
    pub fn implements(&self, helper: &Helper) -> bool {
        helper.description.address_published != Some(false)
            && (helper.default_implementation || self.helper_overrides.contains(&helper.id))
    }
}

impl Platform {
    /// The program type that a section name means: that of the longest prefix of `section`, compared byte by byte. A
    /// separator behind the prefix is not needed, and there is no default (`bindmonitor` is a `bind` program).
    /// The longest prefix may be one of a type that nobody describes; then there is none, either.
    pub fn program_type_for_section(&self, section: &str) -> Option<(&Arc<ProgramType>, &AttachPoint)> {
        let undescribed = self.undescribed_section(section).map_or(0, |s| s.prefix.len());
        self.program_types
            .iter()
            .flat_map(|t| t.sections.iter().map(move |s| (t, s)))
            .filter(|(_, s)| section.starts_with(&s.prefix))
            .max_by_key(|(_, s)| s.prefix.len())
            .filter(|(_, s)| s.prefix.len() > undescribed)
    }

    /// The longest prefix of `section` that means a program type which nobody describes.
    fn undescribed_section(&self, section: &str) -> Option<&UndescribedSection> {
        let matching = self
            .undescribed_sections
            .iter()
            .filter(|s| section.starts_with(&s.prefix));
        matching.max_by_key(|s| s.prefix.len())
    }

    /// All section name prefixes, sorted.
    pub fn section_prefixes(&self) -> Vec<&str> {
        let sections = self.program_types.iter().flat_map(|t| &t.sections);
        let mut prefixes: Vec<&str> = sections.map(|s| s.prefix.as_str()).collect();
        prefixes.sort_unstable();
        prefixes
    }

    /// The helper that a call with this id means in a program of this type. The same id above 65535 means another
    /// helper in another type.
    pub fn helper<'a>(&'a self, program_type: &'a ProgramType, id: u32) -> Option<&'a Helper> {
        let helpers = if id <= self.limits.max_general_helper_id {
            &self.helpers
        } else {
            &program_type.helpers
        };
        helpers.iter().find(|h| h.id == id)
    }

    /// The function that a program means by a module's GUID and a name.
    pub fn btf_function(&self, module: Guid, name: &str) -> Option<&BtfFunction> {
        self.btf_functions.iter().find(|f| f.module == module && f.name == name)
    }

    /// The map type with this number.
    pub fn map_type(&self, value: u32) -> Option<&MapType> {
        self.map_types.iter().find(|t| t.value == value)
    }

    /// This platform with the helpers of another build of a provider; `None` if no provider has such a variant.
    #[must_use]
    pub fn with_variant(&self, id: &str) -> Option<Platform> {
        let mut platform = self.clone();
        let mut found = false;
        for program_type in &mut platform.program_types {
            let Some(variant) = program_type.variants.iter().find(|v| v.id == id).cloned() else {
                continue;
            };
            found = true;
            for helper in &mut Arc::make_mut(program_type).helpers {
                if let Some(other) = variant.helpers.iter().find(|h| h.id == helper.id) {
                    *helper = other.clone();
                }
            }
        }
        found.then_some(platform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_section_prefix_wins() {
        let platform = Platform::builtin();
        let cases = [
            ("xdp", Some(("xdp", "xdp"))),
            ("xdp/filter", Some(("xdp", "xdp"))),
            ("xdp_prog", Some(("xdp", "xdp"))),
            ("bind", Some(("bind", "bind"))),
            ("bind/3", Some(("bind", "bind"))),
            ("bind_1", Some(("bind", "bind"))),
            ("bindmonitor", Some(("bind", "bind"))),
            ("processor", Some(("process", "process"))),
            ("cgroup/connect4", Some(("sock_addr", "cgroup/connect4"))),
            ("cgroup/connect6_x", Some(("sock_addr", "cgroup/connect6"))),
            (
                "cgroup/connect_authorization4",
                Some(("sock_addr", "cgroup/connect_authorization4")),
            ),
            ("cgroup/bind4", Some(("sock_addr", "cgroup/bind4"))),
            ("sockops", Some(("sockops", "sockops"))),
            ("netevent_monitor", Some(("netevent_monitor", "netevent_monitor"))),
            ("sample_ext/utility", Some(("sample", "sample_ext"))),
            ("XDP", None),
            ("cgroup/", None),
            ("xd", None),
            (".text", None),
            ("", None),
        ];
        for (section, expected) in cases {
            let found = platform.program_type_for_section(section);
            let names = found.map(|(t, s)| (t.name.as_str(), s.prefix.as_str()));
            assert_eq!(names, expected, "section `{section}`");
        }
    }

    #[test]
    fn a_longer_prefix_of_another_provider_is_preferred() {
        let longer = "schema = 1\nprovider = { id = \"mine\" }\n[[program_type]]\nname = \"mine\"\nsymbol = \"MINE\"\n\
             guid = \"00000000-0000-0000-0000-000000000001\"\nbpf_prog_type = 0\nis_privileged = false\n\
             context = { struct = \"c\", size = 16, data = -1, data_end = -1, data_meta = -1 }\n\
             [[program_type.section]]\nprefix = \"xdp_mine\"\nattach_type = \"A\"\n\
             attach_type_guid = \"00000000-0000-0000-0000-000000000002\"\nbpf_attach_type = 0\n";
        let mut files = Platform::builtin_files().to_vec();
        files.insert(1, ("mine.toml", longer));
        let platform = Platform::from_toml(&files).unwrap();
        let name = |section| platform.program_type_for_section(section).unwrap().0.name.clone();
        assert_eq!(name("xdp_mine/1"), "mine");
        assert_eq!(name("xdp_min"), "xdp");
    }

    #[test]
    fn a_helper_id_above_the_general_ones_depends_on_the_program_type() {
        let platform = Platform::builtin();
        let of = |section: &str, id| {
            let (program_type, _) = platform.program_type_for_section(section).unwrap();
            platform.helper(program_type, id).map(|h| h.name.as_str())
        };
        assert_eq!(of("xdp", 65536), Some("bpf_xdp_adjust_head"));
        assert_eq!(of("sockops", 65536), Some("bpf_sock_ops_get_flow_id"));
        assert_eq!(of("cgroup/connect4", 65536), None);
        assert_eq!(of("bind", 65536), None);
        assert_eq!(of("bind", 1), Some("bpf_map_lookup_elem"));
        assert_eq!(of("xdp", 22), Some("bpf_memcpy"));
        assert_eq!(of("xdp", 0), None);
        assert_eq!(of("xdp", 36), None);
        assert_eq!(of("xdp", u32::MAX), None);
    }

    #[test]
    fn map_types_have_the_numbers_of_the_runtime() {
        let platform = Platform::builtin();
        assert_eq!(platform.map_type(2).unwrap().name, "array");
        assert!(platform.map_type(2).unwrap().verifier_is_array);
        assert_eq!(platform.map_type(13).unwrap().symbol, "BPF_MAP_TYPE_RINGBUF");
        assert!(platform.map_type(99).is_none());
    }

    #[test]
    fn an_unknown_variant_is_none() {
        assert!(Platform::builtin().with_variant("nobody's").is_none());
    }
}
