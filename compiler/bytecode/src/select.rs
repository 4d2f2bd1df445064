//! A part of a module: some of its programs, and what they need.

use std::collections::BTreeSet;

use crate::{
    Callee, FunctionIndex, GlobalIndex, Imm64, InitialValue, Instruction, Map, MapIndex, MapOrigin, Module, Unresolved,
};

impl Module {
    /// The module with these programs alone: with the functions that they call, and the maps that these use, hold or are made after. Slots of
    /// maps that held another program are empty.
    #[must_use]
    pub fn only(&self, programs: &[FunctionIndex]) -> Module {
        let mut functions: BTreeSet<FunctionIndex> = programs.iter().copied().collect();
        for program in programs {
            functions.extend(self.reachable_from(*program));
        }
        let maps = self.maps_of(&functions);
        let mut part = self.clone();
        let moved = Moved {
            functions: keep(&mut part.functions, |index| functions.contains(&FunctionIndex(index))),
            globals: keep(&mut part.globals, |index| {
                maps.contains(&self.globals[index as usize].map)
            }),
            maps: keep(&mut part.maps, |index| maps.contains(&MapIndex(index))),
        };
        for function in &mut part.functions {
            for insn in &mut function.instructions {
                moved.instruction(&mut insn.op);
            }
        }
        part.unresolved = (part.unresolved.into_iter())
            .filter_map(|unresolved| {
                let function = FunctionIndex(moved.functions[unresolved.function.index()]?);
                Some(Unresolved { function, ..unresolved })
            })
            .collect();
        for global in &mut part.globals {
            global.map = moved.map(global.map);
        }
        for map in &mut part.maps {
            map.inner = map.inner.map(|inner| moved.map(inner));
            if let MapOrigin::Global(global) = &mut map.origin {
                *global = moved.global(*global);
            }
            for value in &mut map.initial_values {
                *value = match *value {
                    Some(InitialValue::Map(map)) => Some(InitialValue::Map(moved.map(map))),
                    Some(InitialValue::Program(program)) => {
                        let place = moved.functions[program.index()];
                        place.map(|place| InitialValue::Program(FunctionIndex(place)))
                    }
                    None => None,
                };
            }
        }
        part.name_templates();
        part.types.move_maps(
            |map| moved.maps[map.index()].map(MapIndex),
            |global| moved.globals[global.index()].map(GlobalIndex),
        );
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
                work.extend(map.initial_values.iter().filter_map(|value| match value {
                    Some(InitialValue::Map(map)) => Some(*map),
                    _ => None,
                }));
            }
        }
        maps
    }
}

/// Keeps some entries of a table. Gives where each is now.
fn keep<T>(table: &mut Vec<T>, wanted: impl Fn(u32) -> bool) -> Vec<Option<u32>> {
    let mut next = 0;
    let places: Vec<Option<u32>> = (0..table.len() as u32)
        .map(|index| {
            let place = wanted(index).then_some(next);
            next += u32::from(place.is_some());
            place
        })
        .collect();
    let mut index = 0;
    table.retain(|_| {
        index += 1;
        places[index - 1].is_some()
    });
    places
}

/// Where entries are that were elsewhere before.
struct Moved {
    functions: Vec<Option<u32>>,
    globals: Vec<Option<u32>>,
    maps: Vec<Option<u32>>,
}

/// What is kept names only what is kept, too.
const KEPT: &str = "what a part of a module names is in that part";

impl Moved {
    fn map(&self, map: MapIndex) -> MapIndex {
        MapIndex(self.maps[map.index()].expect(KEPT))
    }

    fn global(&self, global: GlobalIndex) -> GlobalIndex {
        GlobalIndex(self.globals[global.index()].expect(KEPT))
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
            Instruction::Call(Callee::Local(function)) => {
                *function = FunctionIndex(self.functions[function.index()].expect(KEPT));
            }
            _ => {}
        }
    }
}
