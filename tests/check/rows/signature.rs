//! The embedded signature.

use bpf2sys_check::{Policy, SignatureFacts};
use bpf2sys_simulator::image::DirectoryKind;

use super::{Row, row};
use crate::check::breaking::{asking, directory, directory_offset, finding, microsoft, sign};

pub(super) const ROWS: &[Row] = &[
    row("sign.present", |_| {}).asking(|| asking(Policy::TestSigned, SignatureFacts::default())),
    row("sign.table-aligned", |p| {
        sign(p);
        let start = directory_offset(p, DirectoryKind::Certificate);
        p.bytes.splice(start as usize..start as usize, [0; 4]);
        directory(p, DirectoryKind::Certificate, start + 4, 24);
    }),
    row("sign.table-at-end", |p| {
        sign(p);
        p.bytes.extend([0; 8]);
    }),
    row("sign.entries", |p| {
        sign(p);
        p.put(directory_offset(p, DirectoryKind::Certificate) as usize, &[64]);
    }),
    row("sign.entry-kind", |p| {
        sign(p);
        p.put(directory_offset(p, DirectoryKind::Certificate) as usize + 4, &[0, 1]);
    }),
    row("sign.digest", sign).asking(|| {
        asking(
            Policy::TestSigned,
            SignatureFacts {
                digest: Some(finding(false)),
                ..microsoft()
            },
        )
    }),
    row("sign.signature", sign).asking(|| {
        asking(
            Policy::TestSigned,
            SignatureFacts {
                signature: Some(finding(false)),
                ..microsoft()
            },
        )
    }),
    row("sign.production-root", sign).asking(|| {
        asking(
            Policy::Production,
            SignatureFacts {
                production_root: Some(finding(false)),
                ..microsoft()
            },
        )
    }),
    row("sign.production-subject", sign).asking(|| {
        asking(
            Policy::Production,
            SignatureFacts {
                production_subject: Some(finding(false)),
                ..microsoft()
            },
        )
    }),
    row("sign.production-usages", sign).asking(|| {
        asking(
            Policy::Production,
            SignatureFacts {
                production_usages: Some(finding(false)),
                ..microsoft()
            },
        )
    }),
];
