//! The steps about the context and the packet that it leads to.

use bpf2sys_bytecode::{Condition, Instruction, Operand, Reg, Width, WordSize};
use bpf2sys_isa_tests::code::Label;

use super::state::{Held, Memory};
use super::writer::{Writer, add, mov};

impl Writer<'_> {
    /// Loads a pointer of the context.
    fn packet_pointer(&mut self, offset: i32, held: Held) -> Option<Reg> {
        let context = self.context_register()?;
        let dst = self.lasting_target();
        if dst == context {
            return None;
        }
        // Perhaps the field behind it.
        let offset = if self.slip() { offset + 8 } else { offset };
        self.push(Instruction::Load {
            width: Width::Dw,
            signed: false,
            dst,
            base: context,
            offset: offset as i16,
        });
        self.state.set(dst, held);
        Some(dst)
    }

    fn pointer_of(&mut self, held: Held) -> Option<Reg> {
        if let Some(found) = self.any_holding(|h| h == held)
            && !self.random.chance(1, 5)
        {
            return Some(found);
        }
        let offset = match held {
            Held::Data => self.context().data,
            Held::DataEnd => self.context().data_end,
            _ => self.context().data_meta,
        };
        if offset < 0 {
            return None;
        }
        self.packet_pointer(offset, held)
    }

    /// Start and end of the packet, pinned: the caller puts `pinned` back.
    pub(super) fn packet_bounds(&mut self) -> Option<(Reg, Reg)> {
        let data = self.pointer_of(Held::Data)?;
        self.pinned.push(data);
        let end = self.pointer_of(Held::DataEnd)?;
        self.pinned.push(end);
        Some((data, end))
    }

    /// A check of the packet's size, then accesses.
    pub(super) fn packet(&mut self) {
        if self.context().data < 0 {
            return self.context_access();
        }
        let Some(data) = self.pointer_of(Held::Data) else {
            return;
        };
        self.pinned.push(data);
        self.checked_packet(data);
        let mut helpers = self.plan.program_type.helpers.iter();
        if let Some(moves) = helpers.find(|h| h.reallocate_packet)
            && self.random.chance(1, 4)
        {
            self.call_helper(moves.id);
            // Perhaps as if it were still where it was.
            if self.state.held(data) == Held::Data {
                self.checked_packet(data);
            }
        }
        self.pinned.pop();
    }

    fn checked_packet(&mut self, data: Reg) {
        if self.state.checked == 0 || self.random.chance(1, 3) {
            let bytes = self.random.one_of(&[1, 2, 4, 8, 14, 20, 34, 42]) + self.state.checked;
            let Some(end) = self.pointer_of(Held::DataEnd) else {
                return;
            };
            self.pinned.push(end);
            let limit = self.target();
            self.pinned.pop();
            if limit == data || limit == end {
                return;
            }
            self.push(mov(limit, Operand::Reg(data)));
            self.push(add(limit, bytes));
            let claimed = if self.slip() {
                bytes + self.random.one_of(&[1, 1, 4, -1])
            } else {
                bytes
            };
            let left_out = self.slip();
            let out = self.out;
            if !left_out {
                self.packet_check(limit, end, out);
            }
            self.state.set(
                limit,
                Held::Memory(Memory {
                    low: -claimed,
                    high: 0,
                    nullable: false,
                    writable: true,
                }),
            );
            self.state.checked = claimed;
        }
        let memory = Memory {
            low: 0,
            high: self.state.checked,
            nullable: false,
            writable: true,
        };
        for _ in 0..=self.random.below(2) {
            self.access(data, memory, true);
        }
    }

    /// Leaves if `limit` is past `end`, in one of the ways to say so.
    pub(super) fn packet_check(&mut self, limit: Reg, end: Reg, out: Label) {
        let size = if self.slip() { WordSize::W32 } else { WordSize::W64 };
        let (condition, a, b) = self.random.one_of(&[
            (Condition::Gt, limit, end),
            (Condition::Gt, limit, end),
            (Condition::Lt, end, limit),
            (Condition::Ge, limit, end),
            (Condition::Le, end, limit),
        ]);
        let condition = if self.slip() {
            self.random
                .one_of(&[Condition::Eq, Condition::Lt, Condition::Sgt, Condition::Ne])
        } else {
            condition
        };
        self.jump_if(size, condition, a, Operand::Reg(b), out);
    }

    /// Metadata lies in front of the packet, if there is any.
    pub(super) fn metadata(&mut self) {
        if self.context().data_meta < 0 || (self.context().data_meta_null && !self.slip()) {
            return self.packet();
        }
        let Some(meta) = self.pointer_of(Held::Meta) else {
            return;
        };
        self.pinned.push(meta);
        if let Some(data) = self.pointer_of(Held::Data) {
            self.pinned.push(data);
            let limit = self.target();
            self.pinned.pop();
            if limit != meta && limit != data {
                let bytes = self.random.one_of(&[1, 4, 8]);
                self.push(mov(limit, Operand::Reg(meta)));
                self.push(add(limit, bytes));
                let out = self.out;
                if !self.slip() {
                    self.packet_check(limit, data, out);
                }
                self.state.set(limit, Held::Nothing);
                let memory = Memory {
                    low: 0,
                    high: bytes,
                    nullable: false,
                    writable: true,
                };
                self.access(meta, memory, true);
            }
        }
        self.pinned.pop();
    }

    /// A load or store of a number in the context.
    pub(super) fn context_access(&mut self) {
        let size = self.context().size;
        let free = self.context().data_meta.max(self.context().data_end).max(-8) + 8;
        let Some(base) = self.context_register() else { return };
        let memory = if self.slip() {
            Memory {
                low: 0,
                high: size + 8,
                nullable: false,
                writable: true,
            }
        } else {
            Memory {
                low: if self.context().data > 0 && self.random.chance(1, 2) {
                    0
                } else {
                    free
                },
                high: size,
                nullable: false,
                writable: true,
            }
        };
        let memory = if memory.low == 0 && self.context().data > 0 {
            Memory {
                high: self.context().data,
                ..memory
            }
        } else {
            memory
        };
        if memory.low < memory.high {
            self.access(base, memory, true);
        }
    }
}
