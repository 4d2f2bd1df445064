//! The runtime's result codes, and what it answers to a module that breaks a rule.
//!
//! Given a rule; computed: the result of the request during which the runtime would notice, if it would. What it does not
//! notice stops the machine or corrupts its memory, and has no answer.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rule::Rule;

/// `ebpf_result_t`, as far as loading a module ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u32)]
pub enum EbpfResult {
    /// It worked.
    Success = 0,
    /// The file is not the one that was authorised.
    VerificationFailed = 1,
    /// A program or map does not fit what it is used with.
    InvalidFd = 4,
    /// The module is inconsistent.
    InvalidObject = 5,
    /// The module asks for what cannot be.
    InvalidArgument = 6,
    /// No module with that id is attached.
    ObjectNotFound = 7,
    /// The module is loaded already.
    ObjectAlreadyExists = 8,
    /// Memory is short.
    NoMemory = 12,
    /// The extension of a map does not take the program's type.
    OperationNotSupported = 18,
    /// What the module needs is not there, or it is being unloaded.
    ExtensionFailedToLoad = 23,
}

impl EbpfResult {
    /// The name that headers give it.
    pub fn name(self) -> &'static str {
        match self {
            EbpfResult::Success => "EBPF_SUCCESS",
            EbpfResult::VerificationFailed => "EBPF_VERIFICATION_FAILED",
            EbpfResult::InvalidFd => "EBPF_INVALID_FD",
            EbpfResult::InvalidObject => "EBPF_INVALID_OBJECT",
            EbpfResult::InvalidArgument => "EBPF_INVALID_ARGUMENT",
            EbpfResult::ObjectNotFound => "EBPF_OBJECT_NOT_FOUND",
            EbpfResult::ObjectAlreadyExists => "EBPF_OBJECT_ALREADY_EXISTS",
            EbpfResult::NoMemory => "EBPF_NO_MEMORY",
            EbpfResult::OperationNotSupported => "EBPF_OPERATION_NOT_SUPPORTED",
            EbpfResult::ExtensionFailedToLoad => "EBPF_EXTENSION_FAILED_TO_LOAD",
        }
    }

    /// The `NTSTATUS` that the runtime makes of it for callers outside, among them a driver that attaches. One of them,
    /// `STATUS_OBJECT_NAME_EXISTS`, is no error status.
    pub fn ntstatus(self) -> u32 {
        match self {
            EbpfResult::Success => 0,
            EbpfResult::OperationNotSupported => 0xC000_00BB,
            EbpfResult::VerificationFailed | EbpfResult::ExtensionFailedToLoad => 0xC000_0001,
            EbpfResult::InvalidFd => 0xC000_0008,
            EbpfResult::InvalidObject | EbpfResult::InvalidArgument => 0xC000_000D,
            EbpfResult::ObjectNotFound => 0xC000_003A,
            EbpfResult::ObjectAlreadyExists => 0x4000_0000,
            EbpfResult::NoMemory => 0xC000_009A,
        }
    }

    /// What the provider answers to a module that breaks `rule`, while the module's driver attaches (native module contract
    /// §4.1).
    pub fn at_attach(rule: Rule) -> Option<EbpfResult> {
        matches!(
            rule,
            Rule::MetadataTable | Rule::Version | Rule::ArrayPointer | Rule::ElementHeader | Rule::ElementPointer
        )
        .then_some(EbpfResult::InvalidArgument)
    }

    /// What the runtime answers to a module that breaks `rule`, when maps and programs are loaded (native module contract
    /// §4.2 to §4.9).
    pub fn at_load(rule: Rule) -> Option<EbpfResult> {
        match rule {
            Rule::InnerTemplate => Some(EbpfResult::InvalidObject),
            Rule::ProgramArrayType => Some(EbpfResult::InvalidFd),
            Rule::ProgramType | Rule::BtfFunction | Rule::MapProvider => Some(EbpfResult::ExtensionFailedToLoad),
            Rule::MapAssociation => Some(EbpfResult::OperationNotSupported),
            Rule::MapPinning
            | Rule::PinnedMap
            | Rule::MapDefinition
            | Rule::NameLength
            | Rule::MapIndex
            | Rule::GlobalSection
            | Rule::HelperId
            | Rule::DuplicateHelper
            | Rule::ProgramInfoHash
            | Rule::InitialValue => Some(EbpfResult::InvalidArgument),
            _ => None,
        }
    }
}

impl fmt::Display for EbpfResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
