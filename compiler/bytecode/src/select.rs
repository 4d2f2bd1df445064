//! A part of a module: some of its programs, and what they need.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Callee, DataTypes, FunctionIndex, GlobalIndex, Imm64, InitialValue, Instruction, LineIndex, Map, MapIndex,
    MapOrigin, Module, SourceLine, Unresolved,
};

impl Module {
    /// The module with these programs alone: with the functions that they call, and the maps that these use, hold or are made after. Slots of
    /// maps that held another program are empty. What its data mean ([`Module::types`]) is left out.
    #[must_use]
    pub fn only(&self, programs: &[FunctionIndex]) -> Module {
        let mut functions: BTreeSet<FunctionIndex> = programs.iter().copied().collect();
        for program in programs {
            functions.extend(self.reachable_from(*program));
        }
        let maps = self.maps_of(&functions);
        let globals: Vec<GlobalIndex> = (0..self.globals.len() as u32)
            .map(GlobalIndex)
            .filter(|global| maps.contains(&self.globals[global.index()].map))
            .collect();
        let mut moved = Moved {
            functions: places(functions.iter().copied()),
            globals: places(globals.iter().copied()),
            maps: places(maps.iter().copied()),
            lines: BTreeMap::new(),
        };
        let mut part = Module {
            name: self.name.clone(),
            hash: self.hash.clone(),
            functions: functions.iter().map(|index| self.function(*index).clone()).collect(),
            maps: maps.iter().map(|index| self.maps[index.index()].clone()).collect(),
            globals: globals
                .iter()
                .map(|index| self.globals[index.index()].clone())
                .collect(),
            btf_functions: self.btf_functions.clone(),
            lines: Vec::new(),
            unresolved: Vec::new(),
            types: DataTypes::default(),
        };
        for insn in part.functions.iter_mut().flat_map(|f| &mut f.instructions) {
            moved.instruction(&mut insn.op);
            insn.line = insn.line.map(|line| moved.line(line, self, &mut part.lines));
        }
        for index in &functions {
            let first = self
                .unresolved
                .partition_point(|unresolved| unresolved.function < *index);
            let of_function = self.unresolved[first..]
                .iter()
                .take_while(|unresolved| unresolved.function == *index);
            part.unresolved.extend(of_function.map(|unresolved| Unresolved {
                function: FunctionIndex(moved.functions[index]),
                address_of: None,
                ..unresolved.clone()
            }));
        }
        for global in &mut part.globals {
            global.map = moved.map(global.map);
        }
        for map in &mut part.maps {
            map.inner = map.inner.map(|inner| moved.map(inner));
            match &mut map.origin {
                MapOrigin::Global(global) => *global = moved.global(*global),
                MapOrigin::Record(ring) => *ring = moved.map(*ring),
                MapOrigin::Btf | MapOrigin::Anonymous | MapOrigin::Legacy => {}
            }
            for value in &mut map.initial_values {
                *value = match *value {
                    Some(InitialValue::Map(map)) => Some(InitialValue::Map(moved.map(map))),
                    Some(InitialValue::Program(program)) => {
                        let place = moved.functions.get(&program);
                        place.map(|place| InitialValue::Program(FunctionIndex(*place)))
                    }
                    None => None,
                };
            }
        }
        part.name_templates();
        part
    }

    /// Records that name the template of a map by its place name the place where it is now. The first place can't be named so; a
    /// template that is there is named by its number.
    fn name_templates(&mut self) {
        for index in 0..self.maps.len() {
            let Map { definition, inner, .. } = &self.maps[index];
            let Some(inner) = inner.filter(|_| definition.inner_map_idx != 0) else {
                continue;
            };
            self.maps[index].definition.inner_map_idx = inner.0;
            if inner.0 == 0 {
                let unused = self.maps.iter().map(|map| map.definition.id).max().unwrap_or(0) + 1;
                let template = &mut self.maps[0].definition;
                if template.id == 0 {
                    template.id = unused;
                }
                self.maps[index].definition.inner_id = self.maps[0].definition.id;
            }
        }
    }

    /// Maps that functions use, with those that these hold or are made after.
    fn maps_of(&self, functions: &BTreeSet<FunctionIndex>) -> BTreeSet<MapIndex> {
        let instructions = functions.iter().flat_map(|f| &self.function(*f).instructions);
        let mut work: Vec<MapIndex> = instructions
            .filter_map(|insn| match insn.op {
                Instruction::LoadImm64 {
                    value: Imm64::Map(map), ..
                } => Some(map),
                Instruction::LoadImm64 {
                    value: Imm64::Global { section, .. },
                    ..
                } => Some(self.globals[section.index()].map),
                _ => None,
            })
            .collect();
        let mut maps = BTreeSet::new();
        while let Some(map) = work.pop() {
            if maps.insert(map) {
                let map = &self.maps[map.index()];
                work.extend(map.inner);
                if let MapOrigin::Record(ring) = map.origin {
                    work.push(ring);
                }
                work.extend(map.initial_values.iter().filter_map(|value| match value {
                    Some(InitialValue::Map(map)) => Some(*map),
                    _ => None,
                }));
            }
        }
        maps
    }
}

/// Where entries of a table are of which only these are kept.
fn places<I: Ord>(kept: impl Iterator<Item = I>) -> BTreeMap<I, u32> {
    kept.zip(0..).collect()
}

/// Where entries are that were elsewhere before. What is kept names only what is kept, too.
struct Moved {
    functions: BTreeMap<FunctionIndex, u32>,
    globals: BTreeMap<GlobalIndex, u32>,
    maps: BTreeMap<MapIndex, u32>,
    /// Those that were met.
    lines: BTreeMap<LineIndex, LineIndex>,
}

impl Moved {
    fn map(&self, map: MapIndex) -> MapIndex {
        MapIndex(self.maps[&map])
    }

    fn global(&self, global: GlobalIndex) -> GlobalIndex {
        GlobalIndex(self.globals[&global])
    }

    fn line(&mut self, line: LineIndex, of: &Module, lines: &mut Vec<SourceLine>) -> LineIndex {
        *self.lines.entry(line).or_insert_with(|| {
            lines.push(of.lines[line.index()].clone());
            LineIndex(lines.len() as u32 - 1)
        })
    }

    fn instruction(&self, op: &mut Instruction) {
        match op {
            Instruction::LoadImm64 {
                value: Imm64::Map(map), ..
            } => *map = self.map(*map),
            Instruction::LoadImm64 {
                value: Imm64::Global { section, .. },
                ..
            } => *section = self.global(*section),
            Instruction::Call(Callee::Local(function)) => *function = FunctionIndex(self.functions[function]),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{CALL, DATA, EXEC, EXIT, FUNCTION, IMM64, OBJECT, Object, PROGBITS};
    use crate::{Callee, FunctionIndex, Imm64, Instruction, read};

    const ABS64: u32 = 1;
    const CALL32: u32 = 10;

    /// A program `entry` with the first map and a call of `part`, and a program `other` with the second map.
    fn module() -> crate::Module {
        let mut object = Object::with_program(&[&IMM64[..], &CALL, &EXIT].concat());
        let bind = object.section("bind", PROGBITS, EXEC, &[&IMM64[..], &EXIT].concat());
        let text = object.section(".text", PROGBITS, EXEC, &[EXIT, EXIT].concat());
        let maps = object.section("maps", PROGBITS, DATA, &[1, 0, 0, 0].repeat(8));
        object.symbol("other", FUNCTION, bind, 0, 24);
        object.symbol("unused", FUNCTION, text, 0, 8);
        let part = object.symbol("part", FUNCTION, text, 8, 8);
        let first = object.symbol("first", OBJECT, maps, 0, 16);
        let second = object.symbol("second", OBJECT, maps, 16, 16);
        object.relocate(1, &[(0, ABS64, first), (16, CALL32, part)]);
        object.relocate(bind, &[(0, ABS64, second)]);
        read(&object.build(), "test.o").unwrap()
    }

    #[test]
    fn a_part_has_what_its_programs_need_and_no_more() {
        let module = module();
        let index = |name: &str| FunctionIndex(module.functions.iter().position(|f| f.name == name).unwrap() as u32);
        for (programs, functions, maps) in [
            (&["entry"][..], &["entry", "part"][..], &["first"][..]),
            (&["other"], &["other"], &["second"]),
            (&["entry", "other"], &["entry", "other", "part"], &["first", "second"]),
        ] {
            let programs: Vec<FunctionIndex> = programs.iter().map(|name| index(name)).collect();
            let part = module.only(&programs);
            let names: Vec<&str> = part.functions.iter().map(|f| f.name.as_str()).collect();
            assert_eq!(names, functions);
            let names: Vec<&str> = part.maps.iter().map(|m| m.name.as_str()).collect();
            assert_eq!(names, maps);
            for function in &part.functions {
                for insn in &function.instructions {
                    match insn.op {
                        Instruction::LoadImm64 {
                            value: Imm64::Map(map), ..
                        } => {
                            let expected = if function.name == "entry" { "first" } else { "second" };
                            assert_eq!(part.maps[map.index()].name, expected);
                        }
                        Instruction::Call(Callee::Local(callee)) => {
                            assert_eq!(part.function(callee).name, "part");
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}
