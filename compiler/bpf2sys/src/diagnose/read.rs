//! Objects that can't be read: `BPF1…`.

use bpf2sys_bytecode::{Problem, ReadError};

use crate::{Code, Diagnostic};

pub(super) fn read(error: &ReadError) -> Diagnostic {
    let (code, help) = match &error.problem {
        Problem::NotAnObject(_) => (
            Code::BPF1001,
            Some("compile the program with `clang -target bpf -g -O2 -c`"),
        ),
        Problem::OutOfRange { .. } => (Code::BPF1002, None),
        Problem::Overlap(_) => (Code::BPF1003, None),
        Problem::Malformed(_) => (Code::BPF1004, None),
        Problem::Name(_) => (Code::BPF1005, None),
        Problem::Duplicate(_) => (Code::BPF1006, None),
        Problem::TooMuch { .. } => (Code::BPF1007, None),
        Problem::Instruction { .. } => (Code::BPF1008, None),
        Problem::NoPrograms => (
            Code::BPF1009,
            Some("put each program in a section that names its type, e.g. `SEC(\"xdp\")`"),
        ),
        Problem::Function(_) => (Code::BPF1010, None),
        Problem::RelocationType { .. } => (Code::BPF1011, None),
        Problem::Reference(_) => (Code::BPF1012, None),
        Problem::NotData(_) => (
            Code::BPF1012,
            Some(
                "global variables are in `.rodata`, `.data`, `.bss` and sections with a suffix to such a name, e.g. `SEC(\".data.config\")`",
            ),
        ),
        Problem::Unresolved => (
            Code::BPF1013,
            Some("define it in this object, or link the object that does to this one with `bpftool gen object`"),
        ),
        Problem::UndefinedFunction => (
            Code::BPF1013,
            Some(
                "define it in this object, or declare it `static __inline`; if another Windows module has it, declare it in section \
                 `.ksyms` with __attribute__((btf_decl_tag(\"module_id:{GUID}\"))) and compile with `-g`",
            ),
        ),
        Problem::TypeKind { .. } | Problem::Type { .. } => (Code::BPF1014, None),
        Problem::Map(_) | Problem::MapField { .. } => (Code::BPF1015, None),
        Problem::Unsupported(_) => (Code::BPF1016, None),
        Problem::JoinedUnits => (
            Code::BPF1018,
            Some("compile each source with `-g` and link the objects with `bpftool gen object`"),
        ),
        Problem::NoModule | Problem::TwoModules(..) | Problem::NotAModule(_) => (
            Code::BPF1017,
            Some(
                "tag the function's declaration once with the module that has it: \
                 __attribute__((btf_decl_tag(\"module_id:{01234567-89ab-cdef-0123-456789abcdef}\")))",
            ),
        ),
    };
    Diagnostic {
        help: help.map(str::to_owned),
        ..Diagnostic::new(code, error.to_string())
    }
}
