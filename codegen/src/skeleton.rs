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
