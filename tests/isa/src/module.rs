//! A module of what a text assembled to.

use bpf2sys_bytecode::{
    BtfFunction, BtfFunctionIndex, Callee, Function, GlobalIndex, GlobalSection, Guid, Imm64, Instruction, Map,
    MapIndex, Module, ReadError, read_instructions,
};

use crate::Assembly;
use crate::assembler::BTF_FUNCTIONS;

/// The Windows module whose functions a text calls.
const OTHER_MODULE: Guid = Guid([0x0F; 16]);

/// Why an assembled text is no module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// The code is no valid code.
    #[error(transparent)]
    Code(#[from] ReadError),
    /// A map that nobody defines.
    #[error("there is no map `{0}`")]
    Map(String),
    /// A global variable section that nobody defines.
    #[error("there is no global variable section `{0}`")]
    Global(String),
}

impl Assembly {
    /// The code as a module with these maps and global sections. The program has this name and section; a subprogram has
    /// the name of its label.
    ///
    /// # Errors
    /// The code is no valid code, or mentions a map or section that is not there.
    pub fn module(
        &self,
        name: &str,
        section: &str,
        maps: Vec<Map>,
        globals: Vec<GlobalSection>,
    ) -> Result<Module, ModuleError> {
        let mut module = read_instructions(&self.bytes(), name)?;
        let mut btf_functions: Vec<BtfFunction> = self.btf_functions.iter().map(|name| other(name)).collect();
        btf_functions.sort();
        for (index, function) in module.functions.iter_mut().enumerate() {
            if index > 0 {
                self.name_subprogram(function);
            }
            section.clone_into(&mut function.section);
            for insn in &mut function.instructions {
                if let Instruction::LoadImm64 { value, .. } = &mut insn.op {
                    *value = self.resolve(*value, &maps, &globals)?;
                }
                if let Instruction::Call(callee) = &mut insn.op {
                    *callee = self.callee(*callee, &btf_functions);
                }
            }
        }
        Ok(Module {
            maps,
            globals,
            btf_functions,
            ..module
        })
    }

    fn name_subprogram(&self, function: &mut Function) {
        let start = function.section_offset / bpf2sys_bytecode::Slot::SIZE as u64;
        if let Some((label, _)) = self.labels.iter().find(|(_, slot)| u64::from(**slot) == start) {
            function.name.clone_from(label);
        }
    }

    /// What is called, the names in the text being known.
    fn callee(&self, callee: Callee, btf_functions: &[BtfFunction]) -> Callee {
        let Callee::Helper(id) = callee else { return callee };
        let name = self.btf_functions.get(id.wrapping_sub(BTF_FUNCTIONS) as usize);
        let index = name.and_then(|name| btf_functions.iter().position(|f| f.name == *name));
        index.map_or(callee, |index| Callee::Btf(BtfFunctionIndex(index as u32)))
    }

    /// What `lddw` loads, the names in the text being known.
    fn resolve(&self, value: Imm64, maps: &[Map], globals: &[GlobalSection]) -> Result<Imm64, ModuleError> {
        match value {
            Imm64::Pseudo { src: 1, imm, .. } if let Some(name) = self.maps.get(imm as usize) => {
                let index = maps.iter().position(|map| map.name == *name);
                let index = index.ok_or_else(|| ModuleError::Map(name.clone()))?;
                Ok(Imm64::Map(MapIndex(index as u32)))
            }
            Imm64::Pseudo { src: 2, imm, next_imm } if let Some(name) = self.globals.get(imm as usize) => {
                let index = globals.iter().position(|global| global.section == *name);
                let index = index.ok_or_else(|| ModuleError::Global(name.clone()))?;
                Ok(Imm64::Global {
                    section: GlobalIndex(index as u32),
                    offset: next_imm.cast_unsigned(),
                })
            }
            other => Ok(other),
        }
    }
}

/// A function of the other module.
fn other(name: &str) -> BtfFunction {
    BtfFunction {
        module: OTHER_MODULE,
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{
        BtfFunctionIndex, Callee, GlobalIndex, GlobalSection, Imm64, Instruction, Map, MapDefinition, MapIndex,
        MapOrigin, Reg,
    };

    use crate::assemble_text;

    fn map(name: &str) -> Map {
        Map {
            name: name.to_owned(),
            definition: MapDefinition::default(),
            inner: None,
            origin: MapOrigin::Btf,
            flags: 0,
            initial_values: Vec::new(),
        }
    }

    #[test]
    fn names_of_maps_globals_and_functions_are_resolved() {
        let text = "lddw %r1, map:b\nlddw %r1, global:.data+4\ncall local inner\nexit\ninner:\nexit\n";
        let data = GlobalSection {
            section: ".data".to_owned(),
            map: MapIndex(1),
            data: vec![0; 8],
            read_only: false,
        };
        let assembly = assemble_text(text).unwrap();
        let maps = vec![map("a"), map("b")];
        let module = assembly.module("main", "bind", maps.clone(), vec![data]).unwrap();
        let loads: Vec<Instruction> = module.functions[0].instructions[..2].iter().map(|i| i.op).collect();
        let values = [
            Imm64::Map(MapIndex(1)),
            Imm64::Global {
                section: GlobalIndex(0),
                offset: 4,
            },
        ];
        assert_eq!(
            loads,
            values.map(|value| Instruction::LoadImm64 { dst: Reg::R1, value })
        );
        let names: Vec<&str> = module.functions.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["main", "inner"]);
        let error = assembly
            .module("main", "bind", maps[..1].to_vec(), Vec::new())
            .unwrap_err();
        assert_eq!(error.to_string(), "there is no map `b`");
        let error = assembly.module("main", "bind", maps, Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "there is no global variable section `.data`");
    }

    #[test]
    fn functions_of_the_other_module_are_numbered_by_name() {
        let assembly = assemble_text("call btf b\ncall btf a\ncall btf b\ncall 5\nexit\n").unwrap();
        let module = assembly.module("main", "bind", Vec::new(), Vec::new()).unwrap();
        let names: Vec<&str> = module.btf_functions.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let calls = module.functions[0].instructions[..4].iter().map(|insn| insn.op);
        let btf = |index| Callee::Btf(BtfFunctionIndex(index));
        let expected = [btf(1), btf(0), btf(1), Callee::Helper(5)].map(Instruction::Call);
        assert_eq!(calls.collect::<Vec<_>>(), expected);
    }
}
