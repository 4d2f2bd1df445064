//! The steps that look something up.

use bpf2sys_bytecode::{Condition, MapIndex, MapOrigin, Operand, Reg, WordSize};
use bpf2sys_isa_tests::code::{Label, goto};

use super::calls::helper;
use super::state::{Held, Memory};
use super::writer::{Writer, add, buffer_place, load_map, mov, register};

/// Map types with plain values that a lookup finds: hash, array, their per-CPU forms, LRU, LPM trie.
const PLAIN_MAPS: [u32; 8] = [1, 1, 2, 2, 4, 5, 8, 9];

impl Writer<'_> {
    /// A map with plain values: one of the program's, or a new one.
    pub(super) fn plain_map(&mut self) -> MapIndex {
        let old: Vec<u32> = (0..self.tables.maps.len() as u32)
            .filter(|i| {
                let map = &self.tables.maps[*i as usize];
                PLAIN_MAPS.contains(&map.definition.map_type) && !matches!(map.origin, MapOrigin::Global(_))
            })
            .collect();
        if !old.is_empty() && self.random.chance(2, 3) {
            return MapIndex(self.random.one_of(&old));
        }
        let map_type = self.random.one_of(&PLAIN_MAPS);
        self.map_of_type(map_type)
    }

    pub(super) fn map_of_type(&mut self, map_type: u32) -> MapIndex {
        let key = match map_type {
            10 | 12 | 13 => 0,
            2 | 3 | 5 | 7 | 14 | 15 => 4,
            9 => 8,
            _ => self.random.one_of(&[4, 4, 8, 2, 16, 1]),
        };
        let value = match map_type {
            3 | 6 | 7 | 15 => 4,
            13 | 14 => 0,
            _ => self.random.one_of(&[4, 8, 8, 16, 1, 12, 24, 40]),
        };
        let entries = match map_type {
            13 | 14 => 4096,
            _ => self.random.one_of(&[1, 2, 10, 100]),
        };
        let map = self.tables.map(map_type, key, value, entries);
        if matches!(map_type, 6 | 7) {
            let template = self.plain_map();
            self.tables.maps[map.index()].inner = Some(template);
        }
        map
    }

    /// Puts the address of a key of `bytes` bytes into a register.
    pub(super) fn key(&mut self, dst: Reg, bytes: i32) {
        if bytes > 0 {
            // Elsewhere than on the stack, if there is something.
            if self.random.chance(1, 6)
                && let Some(base) = self
                    .any_holding(|held| matches!(held, Held::Memory(m) if !m.nullable && m.low <= 0 && m.high >= bytes))
                && base.number() >= 6
            {
                self.push(mov(dst, Operand::Reg(base)));
                self.state.set(dst, Held::Nothing);
                return;
            }
        }
        let mut at = buffer_place(self.random, bytes.max(1));
        if self.random.chance(1, 4) && bytes % 8 != 0 {
            at += 8 - bytes % 8;
        }
        self.fill(at, at + bytes);
        self.last_key = Some(at);
        if self.slip() {
            at += self.random.one_of(&[8, 4, 1, -8]);
        }
        self.push(mov(dst, Operand::Reg(register(10))));
        self.push(add(dst, at));
        self.state.set(dst, Held::Nothing);
    }

    /// Looks something up. The pointer, which may be null, is in `r0`.
    fn look_up(&mut self, map: MapIndex) {
        let definition = self.tables.maps[map.index()].definition;
        if self.random.chance(1, 2) {
            self.push(load_map(Reg::R1, map));
            self.key(register(2), definition.key_size as i32);
        } else {
            self.key(register(2), definition.key_size as i32);
            self.push(load_map(Reg::R1, map));
        }
        let id = if self.slip() { 4 } else { 1 };
        self.push(helper(id));
        self.state.forget_arguments();
        self.state.set(
            Reg::R0,
            Held::Memory(Memory {
                low: 0,
                high: definition.value_size as i32,
                nullable: true,
                writable: true,
            }),
        );
    }

    /// Checks a pointer that may be null; the program leaves, or goes past the rest of the step, if it is.
    fn null_check(&mut self, pointer: Reg, out: Label) {
        if self.slip() {
            return;
        }
        let (checked, size) = if self.slip() {
            // The check of a copy, or of its low half.
            let copy = self.target();
            self.push(mov(copy, Operand::Reg(pointer)));
            self.state.set(copy, Held::Nothing);
            (copy, WordSize::W64)
        } else {
            (pointer, if self.slip() { WordSize::W32 } else { WordSize::W64 })
        };
        if self.random.chance(2, 3) {
            let condition = if self.slip() { Condition::Ne } else { Condition::Eq };
            self.jump_if(size, condition, checked, Operand::Imm(0), out);
        } else {
            let there = self.code.label();
            self.jump_if(size, Condition::Ne, checked, Operand::Imm(0), there);
            self.code.jump(goto(WordSize::W64), out);
            self.code.place(there);
        }
    }

    pub(super) fn lookup(&mut self) {
        let map = self.plain_map();
        self.look_up(map);
        self.use_value(Reg::R0);
    }

    /// A value that a lookup found.
    fn use_value(&mut self, found: Reg) {
        let Held::Memory(memory) = self.state.held(found) else {
            return;
        };
        let pointer = self.lasting(found);
        let mut ahead = 0;
        if self.slip() {
            // Arithmetic before the check.
            ahead = self.random.one_of(&[1, 4, 8]);
            self.push(add(pointer, ahead));
        }
        let before = self.state.clone();
        let skip = self.random.chance(1, 2).then(|| self.code.label());
        let out = skip.unwrap_or(self.out);
        self.null_check(pointer, out);
        let memory = Memory {
            low: memory.low - ahead,
            high: memory.high - ahead,
            nullable: false,
            ..memory
        };
        self.state.set(pointer, Held::Memory(memory));
        self.accesses(pointer, memory);
        if self.random.chance(1, 4) {
            self.index_into(pointer);
        }
        if let Some(label) = skip {
            self.code.place(label);
            self.state.meet(&before);
            // Null on the other path.
            self.state.set(pointer, Held::Nothing);
        }
    }

    pub(super) fn lookup_inner(&mut self) {
        let map_type = self.random.one_of(&[6, 7]);
        let old: Vec<u32> = (0..self.tables.maps.len() as u32)
            .filter(|i| matches!(self.tables.maps[*i as usize].definition.map_type, 6 | 7))
            .collect();
        let outer = if old.is_empty() {
            self.map_of_type(map_type)
        } else {
            MapIndex(self.random.one_of(&old))
        };
        let Some(template) = self.tables.maps[outer.index()].inner else {
            return;
        };
        self.look_up(outer);
        if self.slip() {
            // As if the map were its value.
            return self.use_value(Reg::R0);
        }
        self.state.set(Reg::R0, Held::Inner(template.0));
        let inner = self.lasting(Reg::R0);
        let out = self.out;
        self.null_check(inner, out);
        let definition = self.tables.maps[template.index()].definition;
        self.pinned.push(inner);
        self.key(register(2), definition.key_size as i32);
        self.pinned.pop();
        if inner != Reg::R1 {
            self.push(mov(Reg::R1, Operand::Reg(inner)));
        }
        self.push(helper(1));
        self.state.forget_arguments();
        self.state.set(
            Reg::R0,
            Held::Memory(Memory {
                low: 0,
                high: definition.value_size as i32,
                nullable: true,
                writable: true,
            }),
        );
        self.use_value(Reg::R0);
    }
}
