//! What is put around the programs: its code, and what Windows or another linker must find in it.
//!
//! The code is Cranelift IR in `templates/`, the same text for every machine; nothing in it depends on the module.

use bpf2sys_pe_emit::Purpose;
use cranelift_codegen::Context;
use cranelift_codegen::ir::UserFuncName;
use cranelift_codegen::isa::TargetIsa;

use crate::compile::{Code, Target, compile};
use crate::object::{CodeSections, ObjectWriter};
use crate::{LowerError, Options, Skeleton};

/// A file of functions.
struct Template {
    name: &'static str,
    text: &'static str,
}

const DRIVER: Template = Template {
    name: "driver.clif",
    text: include_str!("../../templates/driver.clif"),
};
const DLL: Template = Template {
    name: "dll.clif",
    text: include_str!("../../templates/dll.clif"),
};
/// The function that others find the metadata table by.
const EXPORT: Template = Template {
    name: "export.clif",
    text: include_str!("../../templates/export.clif"),
};
/// The functions that the metadata table names.
const METADATA: Template = Template {
    name: "metadata.clif",
    text: include_str!("../../templates/metadata.clif"),
};

const DRIVER_ENTRY: &str = "DriverEntry";
const DLL_ENTRY: &str = "DllMain";
const EXPORTED: &str = "get_metadata_table";

impl Skeleton {
    fn templates(self) -> &'static [Template] {
        match self {
            Skeleton::Driver => &[DRIVER, METADATA],
            Skeleton::Dll => &[DLL, EXPORT, METADATA],
            Skeleton::Object => &[EXPORT, METADATA],
        }
    }

    /// Compiles the skeleton's functions.
    pub(crate) fn add_code(
        self,
        object: &mut ObjectWriter,
        sections: CodeSections,
        isa: &dyn TargetIsa,
        options: &Options,
        scratch: &mut Context,
    ) -> Result<(), LowerError> {
        for template in self.templates() {
            for (name, code) in compile_template(template, isa, options, scratch)? {
                object.code(sections, Target::Named(name.clone()), &name, code);
            }
        }
        Ok(())
    }

    /// What the object becomes. `module` is the module's name.
    pub(crate) fn purpose(self, object: &ObjectWriter, module: &str) -> Result<Purpose, LowerError> {
        let symbol = |name: &str| object.symbol_of(&Target::Named(name.to_owned()));
        Ok(match self {
            Skeleton::Driver => Purpose::Driver {
                entry: symbol(DRIVER_ENTRY)?,
            },
            Skeleton::Dll => Purpose::Dll {
                name: dll_name(module),
                entry: symbol(DLL_ENTRY)?,
                exports: vec![symbol(EXPORTED)?],
            },
            Skeleton::Object => Purpose::Object {
                exports: vec![symbol(EXPORTED)?],
            },
        })
    }
}

/// The name that the export directory states, where only printable ASCII can stand.
fn dll_name(module: &str) -> String {
    let printable = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    module.chars().map(printable).chain(".dll".chars()).collect()
}

fn compile_template(
    template: &Template,
    isa: &dyn TargetIsa,
    options: &Options,
    scratch: &mut Context,
) -> Result<Vec<(String, Code)>, LowerError> {
    let file = template.name;
    let functions =
        cranelift_reader::parse_functions(template.text).map_err(|e| LowerError::Internal(format!("{file}: {e}")))?;
    functions
        .into_iter()
        .map(|function| {
            let UserFuncName::Testcase(name) = &function.name else {
                return Err(LowerError::Internal(format!("{file}: a function without a name")));
            };
            let name = String::from_utf8_lossy(name.raw()).into_owned();
            let code = compile(function, isa, options, scratch)
                .map_err(|problem| LowerError::Internal(format!("{file}, {name}: {problem}")))?;
            Ok((name, code))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::Module;
    use bpf2sys_pe_emit::{LinkError, Machine, NativeObject, Purpose, SymbolPlace, coff, link};
    use bpf2sys_platform::Platform;

    use crate::testing::{EXIT, View, map, module, mov, one, program, trusted};
    use crate::{Options, Skeleton};

    const MACHINES: [Machine; 2] = [Machine::X64, Machine::Arm64];

    fn lower_as(module: Module, skeleton: Skeleton, machine: Machine) -> NativeObject {
        let options = Options {
            machine,
            skeleton,
            ..Options::default()
        };
        crate::lower(&trusted(module), &Platform::builtin(), &options)
            .unwrap()
            .object
    }

    fn example() -> Module {
        let mut module = one(&[mov(0, 1), EXIT]);
        module.maps = vec![map("m", 1, 4, 4)];
        module
    }

    /// Names of the functions in `.text`, in order.
    fn text_functions(object: &NativeObject) -> Vec<&str> {
        let view = View(object);
        let mut named: Vec<_> = object
            .symbols
            .iter()
            .filter(|symbol| symbol.name != ".text" && matches!(symbol.place, SymbolPlace::Section { .. }))
            .map(|symbol| (view.symbol(&symbol.name), symbol.name.as_str()))
            .filter(|((section, _), _)| *section == ".text")
            .collect();
        named.sort_unstable();
        named.into_iter().map(|(_, name)| name).collect()
    }

    const GETTERS: [&str; 6] = [
        "get_programs",
        "get_maps",
        "get_hash",
        "get_version",
        "get_map_initial_values",
        "get_global_variable_sections",
    ];

    #[test]
    fn a_dll_has_its_entry_point_and_one_export() {
        for machine in MACHINES {
            let object = lower_as(example(), Skeleton::Dll, machine);
            let Purpose::Dll { name, entry, exports } = &object.purpose else {
                panic!("{:?}", object.purpose)
            };
            let named = |symbol: &bpf2sys_pe_emit::SymbolIndex| object.symbols[symbol.0 as usize].name.as_str();
            assert_eq!((name.as_str(), named(entry)), ("test.dll", "DllMain"));
            assert_eq!(exports.iter().map(named).collect::<Vec<_>>(), ["get_metadata_table"]);
            let guard: &[&str] = match machine {
                Machine::X64 => &["guard_no_check", "guard_no_dispatch"],
                Machine::Arm64 => &["guard_no_check"],
            };
            let functions = [&["DllMain", "get_metadata_table"][..], &GETTERS, guard].concat();
            assert_eq!(text_functions(&object), functions);
            assert!(object.imports.is_empty());
            assert!(link(&object).is_ok());
        }
    }

    #[test]
    fn an_object_has_the_module_and_the_way_to_it() {
        for machine in MACHINES {
            let object = lower_as(example(), Skeleton::Object, machine);
            let Purpose::Object { exports } = &object.purpose else {
                panic!("{:?}", object.purpose)
            };
            let [export] = exports.as_slice() else {
                panic!("{exports:?}")
            };
            assert_eq!(object.symbols[export.0 as usize].name, "get_metadata_table");
            let functions = [&["get_metadata_table"][..], &GETTERS].concat();
            assert_eq!(text_functions(&object), functions);
            assert!(object.imports.is_empty());
            assert!(coff(&object).is_ok());
            assert_eq!(link(&object).unwrap_err(), LinkError::NotAnImage);
        }
    }

    #[test]
    fn metadata_is_the_same_whatever_is_around() {
        let driver = lower_as(example(), Skeleton::Driver, Machine::X64);
        for skeleton in [Skeleton::Dll, Skeleton::Object] {
            let object = lower_as(example(), skeleton, Machine::X64);
            let (wanted, got) = (View(&driver), View(&object));
            for table in ["maps", "programs", "hash", "bind"] {
                assert_eq!(wanted.section(table).data, got.section(table).data, "{table}");
            }
            let fields = |view: &View<'_>| -> Vec<String> {
                let (section, at) = view.symbol("metadata_table");
                let name = |place: (&str, usize)| {
                    let is_it = |name: &&&str| view.symbol(name) == place;
                    GETTERS
                        .iter()
                        .find(is_it)
                        .map_or_else(String::new, |name| (*name).to_owned())
                };
                (1..7)
                    .map(|n| name(view.pointer((section, at + 8 * n)).unwrap()))
                    .collect()
            };
            assert_eq!(fields(&got), GETTERS);
            assert_eq!(fields(&wanted), GETTERS);
        }
    }

    #[test]
    fn an_object_has_no_variables() {
        let mut empty = module(Vec::new());
        empty.maps = vec![map("m", 1, 4, 4)];
        let names = |skeleton| {
            let object = lower_as(empty.clone(), skeleton, Machine::X64);
            let names: Vec<String> = View(&object).sections().into_iter().map(str::to_owned).collect();
            (names, object)
        };
        let (sections, driver) = names(Skeleton::Driver);
        assert_eq!(sections, [".text", ".rdata", "maps", ".data", "hash"]);
        assert!(link(&driver).is_ok());
        let (sections, dll) = names(Skeleton::Dll);
        assert_eq!(sections, [".text", ".rdata", "maps", ".data", "hash"]);
        assert_eq!(View(&dll).section(".data").data.len(), 8, "the security cookie");
        // Without programs there are no GUIDs either.
        let (sections, object) = names(Skeleton::Object);
        assert_eq!(sections, [".text", ".rdata", "maps", "hash"]);
        assert!(coff(&object).is_ok());
        let object = lower_as(example(), Skeleton::Dll, Machine::X64);
        assert_eq!(
            View(&object).section(".data").data.len(),
            40,
            "two GUIDs and the cookie"
        );
    }

    #[test]
    fn programs_may_have_the_names_of_the_skeleton() {
        for name in ["get_metadata_table", "DllMain", "get_programs", ".text", "programs"] {
            let code = [mov(0, 1), EXIT];
            for skeleton in [Skeleton::Dll, Skeleton::Object] {
                let object = lower_as(module(vec![program(name, "bind", &code)]), skeleton, Machine::X64);
                let export = object.purpose.exports()[0];
                let SymbolPlace::Section { section, .. } = object.symbols[export.0 as usize].place else {
                    panic!()
                };
                assert_eq!(object.sections[section.0 as usize].name, ".text", "{name}");
                assert!(coff(&object).is_ok(), "{name}");
                assert_eq!(link(&object).is_ok(), skeleton == Skeleton::Dll, "{name}");
            }
        }
    }

    #[test]
    fn a_dll_is_named_after_the_module_as_far_as_that_is_ascii() {
        for (module, dll) in [
            ("udp_filter", "udp_filter.dll"),
            ("a b\u{e9}", "a_b_.dll"),
            ("", ".dll"),
        ] {
            assert_eq!(super::dll_name(module), dll);
        }
    }
}
