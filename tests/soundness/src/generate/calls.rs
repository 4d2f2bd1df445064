//! The steps that call.

use bpf2sys_bytecode::{
    AluOp, BtfFunction, BtfFunctionIndex, Callee, Instruction, MapIndex, Operand, Reg, Width, WordSize,
};

use super::plan::Parameter;
use super::state::Held;
use super::writer::{Writer, add, alu, buffer_place, call_local, load_map, mov, register};
use crate::platforms::platform;

pub(super) fn helper(id: i32) -> Instruction {
    Instruction::Call(Callee::Helper(id))
}

impl Writer<'_> {
    /// Any helper that the program type has.
    pub(super) fn any_helper(&mut self) {
        let program_type = &self.plan.program_type;
        let general = platform()
            .helpers
            .iter()
            .filter(|h| h.default_implementation || program_type.helper_overrides.contains(&h.id));
        let all: Vec<u32> = general.chain(&program_type.helpers).map(|h| h.id).collect();
        let own: Vec<u32> = program_type.helpers.iter().map(|h| h.id).collect();
        // Without arguments nothing can go wrong.
        let id = if !own.is_empty() && self.random.chance(1, 3) {
            self.random.one_of(&own)
        } else {
            self.random.one_of(&all)
        };
        // Tail calls are a step of their own.
        if id != 5 {
            self.call_helper(id);
        }
    }

    /// A helper of the program type.
    pub(super) fn call_helper(&mut self, id: u32) {
        let Some(found) = platform().helper(&self.plan.program_type, id) else {
            return;
        };
        let (arguments, types) = (found.arguments, found.runtime_map_types.clone());
        let (return_type, reallocates) = (found.return_type, found.reallocate_packet);
        let overwrites = !found.writes_readable.is_empty();
        self.last_key = None;
        if self.arguments(arguments, types.as_deref()) {
            self.push(helper(id as i32));
            self.called(return_type, reallocates);
            if overwrites && self.slip() {
                self.index_by_what_was_there();
            }
        }
    }

    /// A helper has written where it was given memory to read, and the program goes on as if what it put there itself were still
    /// there: a small number.
    fn index_by_what_was_there(&mut self) {
        let base = self.any_holding(|held| matches!(held, Held::Memory(m) if !m.nullable && m.low <= 0 && m.high >= 4));
        let (Some(base), Some(at)) = (base, self.last_key) else {
            return;
        };
        self.pinned.push(base);
        let dst = self.target();
        self.pinned.pop();
        if dst == base {
            return;
        }
        self.push(Instruction::Load {
            width: Width::B,
            signed: false,
            dst,
            base: register(10),
            offset: at as i16,
        });
        self.push(alu(WordSize::W64, AluOp::Add, dst, Operand::Reg(base)));
        self.push(Instruction::Load {
            width: Width::B,
            signed: false,
            dst,
            base: dst,
            offset: 0,
        });
        self.state.set(dst, Held::Number);
    }

    pub(super) fn btf(&mut self) {
        let Some(offered) = platform().btf_functions.first() else {
            return;
        };
        let named = BtfFunction {
            module: offered.module,
            name: offered.name.clone(),
        };
        if self.arguments(offered.arguments, None) {
            if self.tables.btf_functions.is_empty() {
                self.tables.btf_functions.push(named);
            }
            self.push(Instruction::Call(Callee::Btf(BtfFunctionIndex(0))));
            self.called(offered.return_type, false);
        }
    }

    fn called(&mut self, return_type: u32, reallocates: bool) {
        self.state.forget_arguments();
        if reallocates && !self.slip() {
            self.state.forget_packet();
        }
        let held = if return_type == 0 || return_type == 2 {
            Held::Number
        } else {
            Held::Nothing
        };
        self.state.set(Reg::R0, held);
    }

    /// Sets `r1` to `r5` as a prototype wants. False if that cannot be.
    fn arguments(&mut self, kinds: [u32; 5], map_types: Option<&[u32]>) -> bool {
        let mut map: Option<MapIndex> = None;
        let count = kinds.iter().take_while(|kind| **kind != 0).count();
        let before = self.pinned.len();
        let mut i = 0;
        while i < count {
            let (kind, argument) = (kinds[i], register(i + 1));
            match kind {
                1 => self.number_argument(argument),
                4 | 14 => {
                    let Some(context) = self.context_register() else {
                        return self.unpin(before);
                    };
                    if kind == 14 && self.random.chance(1, 3) {
                        self.push(mov(argument, Operand::Imm(0)));
                    } else if context != argument {
                        self.push(mov(argument, Operand::Reg(context)));
                    }
                    if self.slip() {
                        self.push(add(argument, 8));
                    }
                    self.state.set(argument, Held::Context);
                }
                5 | 32 | 6 => {
                    let index = self.map_argument(map_types);
                    map = Some(index);
                    self.push(load_map(argument, index));
                    self.state.set(argument, Held::Nothing);
                }
                7 | 8 | 31 => {
                    let Some(index) = map else { return self.unpin(before) };
                    let definition = self.tables.maps[index.index()].definition;
                    let bytes = if kind == 7 {
                        definition.key_size
                    } else {
                        definition.value_size
                    };
                    self.key(argument, bytes as i32);
                }
                9 | 10 | 11 | 15 | 29 | 30 => {
                    let reads = !matches!(kind, 11 | 15);
                    if matches!(kind, 10 | 15 | 30) && self.random.chance(1, 3) {
                        let size = self.random.one_of(&[0, 0, 4]);
                        self.push(mov(argument, Operand::Imm(0)));
                        self.push(mov(register(i + 2), Operand::Imm(size)));
                    } else {
                        self.sized(argument, register(i + 2), reads);
                        if self.slip() {
                            // A number, where memory is wanted.
                            let imm = self.random.immediate();
                            self.push(mov(argument, Operand::Imm(imm)));
                        }
                    }
                    self.state.set(argument, Held::Nothing);
                    self.state.set(register(i + 2), Held::Number);
                    i += 1;
                    self.pinned.push(argument);
                    self.pinned.push(register(i + 1));
                    i += 1;
                    continue;
                }
                21 | 22 => {
                    let bytes = if kind == 21 { 8 } else { 4 };
                    let at = buffer_place(self.random, 8);
                    self.push(mov(argument, Operand::Reg(register(10))));
                    self.push(add(argument, at));
                    if self.slip() {
                        self.push(add(argument, 8));
                    }
                    self.state.set(argument, Held::Nothing);
                    if bytes == 8 {
                        self.state.wrote(at, at + 8);
                    }
                }
                _ => return self.unpin(before),
            }
            self.pinned.push(argument);
            i += 1;
        }
        self.pinned.truncate(before);
        true
    }

    fn unpin(&mut self, before: usize) -> bool {
        self.pinned.truncate(before);
        false
    }

    fn number_argument(&mut self, argument: Reg) {
        let number = self.any_holding(|held| held == Held::Number);
        if self.slip() {
            // Perhaps a pointer.
            let from = register(self.random.below(11));
            self.push(mov(argument, Operand::Reg(from)));
        } else if let Some(number) = number.filter(|_| self.random.chance(1, 2)) {
            if number != argument {
                self.push(mov(argument, Operand::Reg(number)));
            }
        } else {
            let imm = self.random.immediate();
            self.push(mov(argument, Operand::Imm(imm)));
        }
        self.state.set(argument, Held::Number);
    }

    /// A map for which the helper can succeed, or one for which it should not.
    fn map_argument(&mut self, types: Option<&[u32]>) -> MapIndex {
        let creatable = [1, 2, 4, 5, 8, 9, 10, 12, 13];
        let wanted = match types {
            Some(types) if !types.is_empty() && !self.slip() => self.random.one_of(types),
            _ => self.random.one_of(&creatable),
        };
        let old: Vec<u32> = (0..self.tables.maps.len() as u32)
            .filter(|i| {
                let map = &self.tables.maps[*i as usize];
                map.definition.map_type == wanted && !matches!(map.origin, bpf2sys_bytecode::MapOrigin::Global(_))
            })
            .collect();
        if old.is_empty() {
            self.map_of_type(wanted)
        } else {
            MapIndex(self.random.one_of(&old))
        }
    }

    /// Memory and its size in two registers.
    fn sized(&mut self, memory: Reg, size: Reg, reads: bool) {
        let base = self.any_holding(|held| matches!(held, Held::Memory(m) if !m.nullable && m.high > m.low));
        let (room, low) = match base {
            Some(base) if base.number() >= 6 && self.random.chance(1, 2) => {
                let Held::Memory(there) = self.state.held(base) else {
                    return;
                };
                self.push(mov(memory, Operand::Reg(base)));
                (there.high - there.low, there.low)
            }
            _ => {
                let bytes = self.random.one_of(&[1, 4, 8, 16, 24]);
                let low = buffer_place(self.random, bytes);
                if reads {
                    self.fill(low, low + bytes);
                }
                self.push(mov(memory, Operand::Reg(register(10))));
                (bytes, low)
            }
        };
        if low != 0 {
            self.push(add(memory, low));
        }
        self.pinned.push(memory);
        self.state.set(memory, Held::Nothing);
        if self.random.chance(1, 3) {
            // A size that only the run knows.
            let number = self.number();
            if number != memory {
                if number != size {
                    self.push(mov(size, Operand::Reg(number)));
                }
                self.state.set(size, Held::Number);
                self.bound(size, room + 1);
                self.pinned.pop();
                return;
            }
        }
        let bytes = if self.slip() {
            room + self.random.one_of(&[1, -1, 8])
        } else {
            self.random.between(1, room)
        };
        self.push(mov(size, Operand::Imm(bytes)));
        self.pinned.pop();
    }

    /// A later function of the program.
    pub(super) fn call_subprogram(&mut self) {
        let (next, count) = (self.function + 1, self.plan.lengths.len());
        if next >= count {
            return self.any_helper();
        }
        let callee = next + self.random.below(count - next);
        let parameters = self.plan.signatures[callee - 1].clone();
        let before = self.pinned.len();
        for (position, parameter) in parameters.into_iter().enumerate() {
            let argument = register(position + 1);
            match parameter {
                Parameter::Number => self.number_argument(argument),
                Parameter::Context => {
                    let Some(context) = self.context_register() else {
                        self.pinned.truncate(before);
                        return;
                    };
                    if context != argument {
                        self.push(mov(argument, Operand::Reg(context)));
                    }
                    self.state.set(argument, Held::Context);
                }
                Parameter::Lent(bytes) => {
                    let low = buffer_place(self.random, bytes);
                    self.fill(low, low + bytes);
                    self.push(mov(argument, Operand::Reg(register(10))));
                    self.push(add(argument, low));
                    self.state.set(argument, Held::Nothing);
                }
            }
            self.pinned.push(argument);
        }
        self.pinned.truncate(before);
        self.push(call_local(callee));
        self.state.forget_arguments();
        self.state.set(Reg::R0, Held::Number);
    }

    pub(super) fn tail_call(&mut self) {
        let Some(context) = self.context_register() else { return };
        let map = self.map_argument(Some(&[3]));
        if context != Reg::R1 {
            self.push(mov(Reg::R1, Operand::Reg(context)));
        }
        self.state.set(Reg::R1, Held::Context);
        self.push(load_map(register(2), map));
        self.state.set(register(2), Held::Nothing);
        self.pinned.extend([Reg::R1, register(2)]);
        self.number_argument(register(3));
        self.pinned.truncate(self.pinned.len() - 2);
        self.push(helper(5));
        self.called(0, false);
    }
}
