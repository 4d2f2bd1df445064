//! Functions of other Windows modules, which the runtime finds when it loads the module (native module contract §4.7).
//!
//! In C such a function is `extern`, in section `.ksyms`, and tagged with the module that provides it:
//! `__attribute__((section(".ksyms"))) __attribute__((btf_decl_tag("module_id:{GUID}")))`. Clang leaves the symbol undefined, and
//! BTF says the rest: a data section `.ksyms` that lists the function, and a tag on it.
//!
//! Given: the calls of undefined symbols in the code of an object, and its BTF.
//! Computed: the functions that are called, each once, in the order in which the runtime hashes them.
//! Safe because: a symbol that BTF does not declare in this way, or declares in two, is refused where it is called.

use std::collections::{BTreeMap, BTreeSet};

use object::elf::{R_BPF_64_32, STB_WEAK};

use crate::btf::{Btf, Type, TypeId};
use crate::elf::{Elf, Home, Symbol};
use crate::error::{Problem, ReadError};
use crate::functions::FunctionTable;
use crate::linux::Configuration;
use crate::{BtfFunction, BtfFunctionIndex, Guid};

/// The section that BTF lists functions of other modules in.
const SECTION: &str = ".ksyms";
/// How the text of the tag begins that names the module.
const TAG: &str = "module_id:";

/// What BTF says about symbols that the object does not define.
#[derive(Default)]
pub(crate) struct Externs<'b> {
    /// Functions of `.ksyms` with the texts of the tags on them.
    functions: BTreeMap<&'b str, BTreeSet<&'b [u8]>>,
    /// The section that BTF lists an undefined variable in.
    variables: BTreeMap<&'b str, &'b str>,
    /// The functions that are called.
    pub(crate) called: Vec<BtfFunction>,
    /// Of an object for Linux: values of names of the kernel's configuration. Functions may be of no module then.
    configuration: Option<Configuration>,
    indices: BTreeMap<String, BtfFunctionIndex>,
}

impl<'b> Externs<'b> {
    /// Finds the functions of other modules that the code calls.
    pub(crate) fn read(
        elf: &Elf<'_>,
        code: &FunctionTable<'_>,
        btf: Option<&'b Btf<'_>>,
        configuration: Option<Configuration>,
    ) -> Result<Self, ReadError> {
        let mut externs = Externs {
            configuration,
            ..Externs::default()
        };
        if let Some(btf) = btf {
            externs.declare(btf);
        }
        let mut called = BTreeSet::new();
        for section in &code.sections {
            for relocation in elf.relocations(&section.section)? {
                let symbol = relocation.symbol;
                if relocation.kind == R_BPF_64_32.0 && symbol.home == Home::Undefined {
                    let place = || section.section.place().at(relocation.offset).of_symbol(symbol.name);
                    called.insert(externs.function(symbol.name).map_err(|p| place().error(p))?);
                }
            }
        }
        externs.called = called.into_iter().collect();
        externs.indices = (0..)
            .map(BtfFunctionIndex)
            .zip(&externs.called)
            .map(|(i, f)| (f.name.clone(), i))
            .collect();
        Ok(externs)
    }

    /// Takes note of what BTF lists in sections.
    fn declare(&mut self, btf: &'b Btf<'_>) {
        let mut tags: BTreeMap<TypeId, Vec<&[u8]>> = BTreeMap::new();
        for (_, entry) in btf.types() {
            if let Type::Tag { text, of } = entry
                && let Ok(text) = btf.text(*text)
            {
                tags.entry(*of).or_default().push(text);
            }
        }
        for (_, entry) in btf.types() {
            let Type::DataSection { name, variables, .. } = entry else {
                continue;
            };
            for id in variables {
                match btf.get(*id) {
                    Ok(Type::Function { name: function }) if *name == SECTION => {
                        let tags = tags.get(id).into_iter().flatten();
                        self.functions.entry(function).or_default().extend(tags);
                    }
                    Ok(Type::Variable { name: variable, .. }) => {
                        self.variables.entry(variable).or_insert(name);
                    }
                    _ => {}
                }
            }
        }
    }

    /// The function that a call of an undefined symbol calls.
    fn function(&self, name: &str) -> Result<BtfFunction, Problem> {
        let tags = self.functions.get(name).ok_or(Problem::UndefinedFunction)?;
        let mut modules = tags
            .iter()
            .filter_map(|tag| std::str::from_utf8(tag).ok()?.strip_prefix(TAG));
        let Some(module) = modules.next() else {
            // A function of the kernel itself.
            return self.configuration.as_ref().map_or(Err(Problem::NoModule), |_| {
                Ok(BtfFunction {
                    module: Guid::ZERO,
                    name: name.to_owned(),
                })
            });
        };
        if let Some(second) = modules.next() {
            return Err(Problem::TwoModules(module.to_owned(), second.to_owned()));
        }
        match guid(module) {
            None | Some(Guid::ZERO) => Err(Problem::NotAModule(module.to_owned())),
            Some(module) => Ok(BtfFunction {
                module,
                name: name.to_owned(),
            }),
        }
    }

    /// The index of a function that is called.
    pub(crate) fn index(&self, name: &str) -> Option<BtfFunctionIndex> {
        self.indices.get(name).copied()
    }

    /// Whether the object is for Linux.
    pub(crate) fn is_for_linux(&self) -> bool {
        self.configuration.is_some()
    }

    /// What an object for Linux has where it refers to a symbol that it does not define: the place of a value of the configuration, nothing
    /// (0) for a weak symbol, or why there is nothing. None of other objects.
    pub(crate) fn of_kernel(&self, symbol: &Symbol<'_>) -> Option<Result<Option<u32>, String>> {
        let configuration = self.configuration.as_ref()?;
        let name = symbol.name;
        if let Some(place) = configuration.places.get(name) {
            return Some(place.clone().map(Some));
        }
        if symbol.bind == STB_WEAK {
            return Some(Ok(None));
        }
        Some(Err(
            if self.functions.contains_key(name) || self.variables.get(name) == Some(&SECTION) {
                format!("{name} is a symbol of the Linux kernel, and Windows has none of them")
            } else {
                format!(
                    "{name} is not defined in this object; link it with the one that defines it (`bpftool gen object`)"
                )
            },
        ))
    }

    /// Why the address of an undefined symbol cannot be had.
    pub(crate) fn no_address(&self, name: &str) -> Problem {
        if self.functions.contains_key(name) {
            return Problem::Unsupported(
                "the address of a function of another module is taken, to test or to pass it; Windows gives none, and does not load the \
                 program where the function is missing: call it without a test",
            );
        }
        match self.variables.get(name) {
            Some(&SECTION) => {
                Problem::Unsupported("a variable of another module; Windows has only functions in `.ksyms`")
            }
            Some(&".kconfig") => Problem::Unsupported(
                "a value of the Linux kernel's configuration, which Windows does not have; use a `const volatile` variable",
            ),
            _ => Problem::Unresolved,
        }
    }
}

/// The GUID in braces, in digits of either case.
fn guid(text: &str) -> Option<Guid> {
    let digits = text.strip_prefix('{')?.strip_suffix('}')?;
    // The parser takes other forms too: without hyphens, or as a URN.
    let is_hyphenated = digits.len() == 36 && [8, 13, 18, 23].iter().all(|i| digits.as_bytes().get(*i) == Some(&b'-'));
    digits.parse().ok().filter(|_| is_hyphenated)
}

#[cfg(test)]
mod tests {
    use crate::testing::{CALL, EXIT, FUNCTION, IMM64, Object, Types};
    use crate::{BtfFunction, BtfFunctionIndex, Callee, Instruction, Module, ReadError, read};

    const CALL32: u32 = 10;
    const ABS64: u32 = 1;
    const WHOLE: u32 = u32::MAX;
    const GUID: &str = "module_id:{8f6c1f83-ce4c-4b58-8b91-654a29e23b7c}";

    /// A program that calls the undefined symbols `f0` and up, `calls` of them.
    fn calling(calls: usize, types: &Types) -> Object {
        let mut object = Object::with_program(&[&CALL.repeat(calls)[..], &EXIT].concat());
        let relocations: Vec<_> = (0..calls)
            .map(|n| (n as u64 * 8, CALL32, object.symbol(&format!("f{n}"), FUNCTION, 0, 0, 0)))
            .collect();
        object.relocate(1, &relocations);
        object.section(".BTF", 1, 0, &types.build());
        object
    }

    /// Functions `f0` and up, each with these tags, in `.ksyms`.
    fn declared(functions: &[&[&str]]) -> Types {
        let mut types = Types::new();
        let ids: Vec<u32> = (0..)
            .zip(functions)
            .map(|(n, tags)| {
                let function = types.function(&format!("f{n}"));
                for tag in *tags {
                    types.tag(tag, function, WHOLE);
                }
                function
            })
            .collect();
        types.data_section(".ksyms", 0, &ids);
        types
    }

    fn module(object: &Object) -> Result<Module, ReadError> {
        read(&object.build(), "test.o")
    }

    fn message(object: &Object) -> String {
        module(object).map(|_| ()).unwrap_err().to_string()
    }

    fn names(functions: &[BtfFunction]) -> Vec<String> {
        functions.iter().map(|f| format!("{} {}", f.module, f.name)).collect()
    }

    #[test]
    fn functions_are_in_order_of_guid_bytes_and_name() {
        let module = read(include_bytes!("../tests/fixtures/ksyms.o"), "ksyms.o").unwrap();
        assert_eq!(
            names(&module.btf_functions),
            [
                "01000000-ce4c-4b58-8b91-654a29e23b7c area",
                "01000000-ce4c-4b58-8b91-654a29e23b7c zoom",
                "00000001-ce4c-4b58-8b91-654a29e23b7c guess",
                "00000001-ce4c-4b58-8b91-654a29e23b7c mode",
            ]
        );
        let calls: Vec<_> = module
            .functions
            .iter()
            .map(|f| {
                let calls = f.instructions.iter().filter_map(|i| match i.op {
                    Instruction::Call(callee) => Some(callee),
                    _ => None,
                });
                (f.name.as_str(), calls.collect::<Vec<_>>())
            })
            .collect();
        let btf = |n| Callee::Btf(BtfFunctionIndex(n));
        assert_eq!(
            calls,
            [
                ("inside", vec![btf(3)]),
                (
                    "entry",
                    vec![btf(1), btf(0), Callee::Local(crate::FunctionIndex(0)), btf(1)]
                ),
                ("other", vec![btf(2)]),
            ]
        );
    }

    #[test]
    fn only_functions_that_are_called_are_listed() {
        let types = declared(&[&[GUID], &[GUID], &["module_id:{no guid}"]]);
        let module = module(&calling(1, &types)).unwrap();
        assert_eq!(
            names(&module.btf_functions),
            ["8f6c1f83-ce4c-4b58-8b91-654a29e23b7c f0"]
        );
    }

    #[test]
    fn other_tags_and_tags_of_parameters_do_not_count() {
        let mut types = Types::new();
        let function = types.function("f0");
        types.tag("kfunc", function, WHOLE);
        types.tag("module_id:{00000000-ce4c-4b58-8b91-654a29e23b7c}", function, 0);
        types.tag(GUID, function, WHOLE);
        types.data_section(".ksyms", 0, &[function]);
        let module = module(&calling(1, &types)).unwrap();
        assert_eq!(
            names(&module.btf_functions),
            ["8f6c1f83-ce4c-4b58-8b91-654a29e23b7c f0"]
        );
    }

    #[test]
    fn one_tag_may_be_there_twice() {
        // As linkers leave it that do not compare types.
        let types = declared(&[&[GUID, GUID]]);
        assert_eq!(module(&calling(1, &types)).unwrap().btf_functions.len(), 1);
    }

    #[test]
    fn refuses_functions_whose_module_cannot_be_told() {
        let names_none = |text: &str| format!("`{text}` does not name a module by a GUID in braces other than zero");
        for (tags, expected) in [
            (
                &[][..],
                "nothing says which Windows module has this function".to_owned(),
            ),
            (
                &["module_of:{x}"],
                "nothing says which Windows module has this function".to_owned(),
            ),
            (
                &[GUID, "module_id:{00000001-ce4c-4b58-8b91-654a29e23b7c}"],
                "the function is declared in two modules, `{00000001-ce4c-4b58-8b91-654a29e23b7c}` and \
                 `{8f6c1f83-ce4c-4b58-8b91-654a29e23b7c}`"
                    .to_owned(),
            ),
            (&["module_id:"], names_none("module_id:")),
            (
                &["module_id:{00000000-0000-0000-0000-000000000000}"],
                names_none("module_id:{00000000-0000-0000-0000-000000000000}"),
            ),
            (
                &["module_id:8f6c1f83-ce4c-4b58-8b91-654a29e23b7c"],
                names_none("module_id:8f6c1f83-ce4c-4b58-8b91-654a29e23b7c"),
            ),
            (
                &["module_id:{8f6c1f83ce4c4b588b91654a29e23b7c}"],
                names_none("module_id:{8f6c1f83ce4c4b588b91654a29e23b7c}"),
            ),
            (
                &["module_id:{8f6c1f83-ce4c-4b58-8b91-654a29e23b7g}"],
                names_none("module_id:{8f6c1f83-ce4c-4b58-8b91-654a29e23b7g}"),
            ),
        ] {
            let message = message(&calling(1, &declared(&[tags])));
            let message = message.strip_prefix("section `xdp` at 0x0: `f0`: ").unwrap();
            assert_eq!(message, expected, "{tags:?}");
        }
    }

    #[test]
    fn refuses_functions_that_are_not_declared_so() {
        let expected = "section `xdp` at 0x0: `f0`: the function is not defined in this object";
        // In no section, in another one, as a variable, without BTF.
        let mut nowhere = Types::new();
        let function = nowhere.function("f0");
        nowhere.tag(GUID, function, WHOLE);
        let mut elsewhere = nowhere.clone();
        elsewhere.data_section(".kconfig", 0, &[function]);
        let mut variable = Types::new();
        let int = variable.int(4);
        let variable_id = variable.variable("f0", int);
        variable.data_section(".ksyms", 0, &[variable_id]);
        for types in [&nowhere, &elsewhere, &variable] {
            assert_eq!(message(&calling(1, types)), expected);
        }
        let mut without = calling(1, &nowhere);
        without.sections.retain(|s| s.name != ".BTF");
        assert_eq!(message(&without), expected);
    }

    #[test]
    fn refuses_addresses_of_what_another_module_has() {
        let mut types = declared(&[&[GUID]]);
        let int = types.int(4);
        let (ksym, kconfig) = (types.variable("jiffies", int), types.variable("CONFIG_HZ", int));
        types.data_section(".ksyms", 0, &[ksym]);
        types.data_section(".kconfig", 0, &[kconfig]);
        for (name, expected) in [
            ("f0", "the address of a function of another module is taken"),
            (
                "jiffies",
                "a variable of another module; Windows has only functions in `.ksyms`",
            ),
            (
                "CONFIG_HZ",
                "a value of the Linux kernel's configuration, which Windows does not have",
            ),
            ("nothing", "the symbol is not defined in this object"),
        ] {
            let mut object = Object::with_program(&[&IMM64[..], &EXIT].concat());
            let symbol = object.symbol(name, 0x20, 0, 0, 0);
            object.relocate(1, &[(0, ABS64, symbol)]);
            object.section(".BTF", 1, 0, &types.build());
            let message = message(&object);
            assert!(
                message.starts_with(&format!("section `xdp` at 0x0: `{name}`: {expected}")),
                "{message}"
            );
        }
    }

    #[test]
    fn refuses_calls_into_a_function_of_another_module() {
        let mut object = calling(1, &declared(&[&[GUID]]));
        object.sections[0].data[4..8].copy_from_slice(&0u32.to_le_bytes());
        assert_eq!(
            message(&object),
            "section `xdp` at 0x0: `f0`: calls a place inside of a function of another module"
        );
    }
}
