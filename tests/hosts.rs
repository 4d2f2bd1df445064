//! Hosts other than this one: nothing that would be compiled for Windows is Unix's alone.
//!
//! Read is what a compiler for Windows would read: the modules of every crate of the product from its root on, without those
//! items, statements and modules that `cfg` takes away there. In what is left, no path may lead to what only Unix has, and no
//! text may be a file that only Unix has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::support::{root, test};

/// Folders of the crates that the tool is made of.
const CRATES: [&str; 13] = [
    "codegen",
    "compiler/bpf2sys",
    "compiler/build-script",
    "compiler/bytecode",
    "compiler/check",
    "compiler/lines",
    "compiler/platform",
    "compiler/retarget",
    "compiler/testing",
    "compiler/verifier",
    "pe-emit",
    "pe-emit/authenticode",
    "simulator",
];

/// Crates that are of no use elsewhere, and so are no dependencies there.
const UNIX_CRATES: [&str; 4] = ["libc", "nix", "rustix", "signal-hook"];

/// Folders and files that only Unix has.
const UNIX_FILES: [&str; 12] = [
    "/bin", "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/run", "/sys", "/tmp", "/usr", "/var",
];

pub fn trials() -> Vec<Trial> {
    vec![
        test("hosts::no_source_of_the_tool_needs_unix", no_source_needs_unix),
        test(
            "hosts::no_crate_of_unix_is_a_dependency_on_windows",
            dependencies_fit_windows,
        ),
        test("hosts::what_needs_unix_is_found", what_needs_unix_is_found),
        test(
            "hosts::what_windows_never_sees_may_need_unix",
            what_windows_never_sees_is_left_alone,
        ),
        test(
            "hosts::modules_are_taken_away_with_their_files",
            modules_are_taken_away_with_their_files,
        ),
    ]
}

fn no_source_needs_unix() -> Result<(), Failed> {
    let mut problems = Vec::new();
    for folder in CRATES.map(|folder| root().join(folder)) {
        let mut reading = Reading::default();
        for file in ["src/lib.rs", "src/main.rs", "src/bin/cargo-bpf2sys.rs", "build.rs"] {
            let file = folder.join(file);
            if file.is_file() {
                reading.file(&file, true)?;
            }
        }
        let mut all = BTreeSet::new();
        sources(&folder.join("src"), &mut all)?;
        let of_no_module: Vec<_> = all.difference(&reading.files).collect();
        if !of_no_module.is_empty() {
            return Err(format!("of no module that was read: {of_no_module:?}").into());
        }
        problems.extend(reading.problems);
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!(
        "what only Unix has is used outside of `cfg`; give it one, and say what other hosts do instead:\n{}",
        problems.join("\n")
    )
    .into())
}

fn sources(folder: &Path, all: &mut BTreeSet<PathBuf>) -> Result<(), Failed> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, all)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.insert(path);
        }
    }
    Ok(())
}

/// Whether a predicate of `cfg` holds on Windows; none if that is up to something else.
fn holds(predicate: &syn::Meta) -> Option<bool> {
    let parts = |list: &syn::MetaList| -> Vec<Option<bool>> {
        let parts = list.parse_args_with(syn::punctuated::Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated);
        // What can't be read decides nothing.
        parts.map_or_else(|_| vec![None], |parts| parts.iter().map(holds).collect())
    };
    let is = |name: &str| predicate.path().is_ident(name);
    match predicate {
        // Tests are compiled for the machine that they run on.
        syn::Meta::Path(_) if is("unix") || is("test") => Some(false),
        syn::Meta::Path(_) if is("windows") => Some(true),
        syn::Meta::List(list) if is("not") => parts(list).first().copied().flatten().map(|holds| !holds),
        syn::Meta::List(list) if is("all") => {
            let parts = parts(list);
            if parts.contains(&Some(false)) {
                return Some(false);
            }
            (!parts.contains(&None)).then_some(true)
        }
        syn::Meta::List(list) if is("any") => {
            let parts = parts(list);
            if parts.contains(&Some(true)) {
                return Some(true);
            }
            (!parts.contains(&None)).then_some(false)
        }
        syn::Meta::NameValue(pair) if is("target_os") || is("target_family") => {
            let syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(name),
                ..
            }) = &pair.value
            else {
                return None;
            };
            Some(name.value() == "windows")
        }
        _ => None,
    }
}

/// Whether something with these attributes can be there on Windows.
fn is_there(attributes: &[syn::Attribute]) -> bool {
    !attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Meta>()
                .is_ok_and(|predicate| holds(&predicate) == Some(false))
    })
}

/// What was read of a crate.
#[derive(Default)]
struct Reading {
    /// Files of all its modules, those too that Windows does not see.
    files: BTreeSet<PathBuf>,
    problems: Vec<String>,
}

impl Reading {
    /// Reads a file and those of its modules. Of what is not `seen` on Windows, only their names.
    fn file(&mut self, path: &Path, seen: bool) -> Result<(), Failed> {
        self.files.insert(path.to_owned());
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let (problems, modules) = read(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        if seen {
            let name = path.strip_prefix(root()).unwrap_or(path);
            let named = problems.iter().map(|problem| format!("{}:{problem}", name.display()));
            self.problems.extend(named);
        }
        let folder = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("lib" | "main" | "mod" | "build") | None => path.with_file_name(""),
            Some(_) => path.with_extension(""),
        };
        for module in modules {
            let beside = folder.join(&module.name).with_extension("rs");
            let own = folder.join(&module.name).join("mod.rs");
            let file = match &module.file {
                Some(file) => path.with_file_name(file),
                None if own.is_file() => own,
                None => beside,
            };
            self.file(&file, seen && module.seen)?;
        }
        Ok(())
    }
}

/// `mod name;`
struct Module {
    /// With the modules that it is in within its file.
    name: PathBuf,
    /// The file that `#[path]` names.
    file: Option<String>,
    /// Whether Windows sees it.
    seen: bool,
}

/// The problems in a source, each with its line, and the modules that have files of their own.
fn read(text: &str) -> syn::Result<(Vec<String>, Vec<Module>)> {
    let file = syn::parse_file(text)?;
    let mut source = Source {
        seen: is_there(&file.attrs),
        ..Source::default()
    };
    source.visit_file(&file);
    Ok((source.problems, source.modules))
}

#[derive(Default)]
struct Source {
    seen: bool,
    /// The modules that what is read is in.
    within: PathBuf,
    modules: Vec<Module>,
    problems: Vec<String>,
}

impl Source {
    fn problem(&mut self, at: Span, what: &str) {
        if self.seen {
            self.problems.push(format!("{}: {what}", at.start().line));
        }
    }

    /// Reads what has these attributes.
    fn guarded(&mut self, attributes: &[syn::Attribute], read: impl FnOnce(&mut Self)) {
        let before = self.seen;
        self.seen &= is_there(attributes);
        read(self);
        self.seen = before;
    }

    /// Judges a path, given by its first segments.
    fn path(&mut self, at: Span, segments: &[String]) {
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let needs_unix = match segments.as_slice() {
            ["std", "os", "windows" | "raw", ..] => false,
            ["std", "os", ..] => true,
            [first, ..] => UNIX_CRATES.contains(first),
            [] => false,
        };
        if needs_unix {
            self.problem(at, &segments.join("::"));
        }
    }

    fn literal(&mut self, literal: &syn::Lit) {
        let bytes = match literal {
            syn::Lit::Str(text) => text.value().into_bytes(),
            syn::Lit::CStr(text) => text.value().into_bytes(),
            syn::Lit::ByteStr(text) => text.value(),
            _ => return,
        };
        let text = String::from_utf8_lossy(&bytes);
        let is_file = UNIX_FILES.iter().any(|file| {
            text.strip_prefix(file)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if is_file {
            self.problem(literal.span(), &format!("{text:?}"));
        }
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.path(name.ident.span(), &with(&name.ident)),
            syn::UseTree::Rename(name) => self.path(name.ident.span(), &with(&name.ident)),
            syn::UseTree::Glob(glob) => self.path(glob.star_token.spans[0], before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
        }
    }

    /// The arguments of a macro, which need not be Rust: texts, and names with `::` between.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        let mut start = Span::call_site();
        for token in tokens {
            match &token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => path.push(ident.to_string()),
                _ => {
                    self.path_of_several(start, &path);
                    path.clear();
                    match &token {
                        TokenTree::Ident(ident) => {
                            start = ident.span();
                            path.push(ident.to_string());
                        }
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Literal(literal) => self.literal(&syn::Lit::new(literal.clone())),
                        TokenTree::Punct(_) => {}
                    }
                }
            }
            colons = 0;
        }
        self.path_of_several(start, &path);
    }

    /// A single name is a variable or a word of the macro's own.
    fn path_of_several(&mut self, at: Span, segments: &[String]) {
        if segments.len() > 1 {
            self.path(at, segments);
        }
    }
}

/// What can have `cfg`: its attributes decide about the rest of it.
macro_rules! guarded {
    ($( $visit:ident $node:ty, $attributes:expr; )+) => {
        $( fn $visit(&mut self, node: &'ast $node) {
            let attributes: fn(&$node) -> &[syn::Attribute] = $attributes;
            self.guarded(attributes(node), |source| visit::$visit(source, node));
        } )+
    };
}

impl<'ast> Visit<'ast> for Source {
    guarded! {
        visit_item syn::Item, item_attributes;
        visit_impl_item syn::ImplItem, |item| match item {
            syn::ImplItem::Const(item) => &item.attrs,
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Type(item) => &item.attrs,
            syn::ImplItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        visit_trait_item syn::TraitItem, |item| match item {
            syn::TraitItem::Const(item) => &item.attrs,
            syn::TraitItem::Fn(item) => &item.attrs,
            syn::TraitItem::Type(item) => &item.attrs,
            syn::TraitItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        visit_foreign_item syn::ForeignItem, |item| match item {
            syn::ForeignItem::Fn(item) => &item.attrs,
            syn::ForeignItem::Static(item) => &item.attrs,
            syn::ForeignItem::Type(item) => &item.attrs,
            syn::ForeignItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        visit_expr syn::Expr, expression_attributes;
        visit_local syn::Local, |local| &local.attrs;
        visit_stmt_macro syn::StmtMacro, |statement| &statement.attrs;
        visit_arm syn::Arm, |arm| &arm.attrs;
        visit_field syn::Field, |field| &field.attrs;
        visit_field_value syn::FieldValue, |field| &field.attrs;
        visit_variant syn::Variant, |variant| &variant.attrs;
    }

    /// Documentation is text, too, and needs nothing.
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let name = self.within.join(module.ident.to_string());
        if module.content.is_some() {
            let outer = std::mem::replace(&mut self.within, name);
            visit::visit_item_mod(self, module);
            self.within = outer;
            return;
        }
        let file = module.attrs.iter().find_map(|attribute| match &attribute.meta {
            syn::Meta::NameValue(syn::MetaNameValue {
                path,
                value:
                    syn::Expr::Lit(syn::ExprLit {
                        lit: syn::Lit::Str(file),
                        ..
                    }),
                ..
            }) if path.is_ident("path") => Some(file.value()),
            _ => None,
        });
        let seen = self.seen;
        self.modules.push(Module { name, file, seen });
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.path(item.ident.span(), &[item.ident.to_string()]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let Some(first) = path.segments.first() {
            self.path_of_several(first.ident.span(), &segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, node: &'ast syn::Macro) {
        self.tokens(node.tokens.clone());
    }

    fn visit_lit(&mut self, literal: &'ast syn::Lit) {
        self.literal(literal);
    }
}

fn item_attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::ExternCrate(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::ForeignMod(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::TraitAlias(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Of the expressions that are statements or elements with `cfg` in practice.
fn expression_attributes(expression: &syn::Expr) -> &[syn::Attribute] {
    match expression {
        syn::Expr::Assign(expression) => &expression.attrs,
        syn::Expr::Block(expression) => &expression.attrs,
        syn::Expr::Call(expression) => &expression.attrs,
        syn::Expr::ForLoop(expression) => &expression.attrs,
        syn::Expr::If(expression) => &expression.attrs,
        syn::Expr::Lit(expression) => &expression.attrs,
        syn::Expr::Macro(expression) => &expression.attrs,
        syn::Expr::Match(expression) => &expression.attrs,
        syn::Expr::MethodCall(expression) => &expression.attrs,
        syn::Expr::Path(expression) => &expression.attrs,
        syn::Expr::Return(expression) => &expression.attrs,
        syn::Expr::Try(expression) => &expression.attrs,
        syn::Expr::Unsafe(expression) => &expression.attrs,
        syn::Expr::While(expression) => &expression.attrs,
        _ => &[],
    }
}

/// Every dependency of the product that is of Unix is one there only, and one of Windows the other way around.
fn dependencies_fit_windows() -> Result<(), Failed> {
    let mut found = 0;
    for folder in CRATES.map(|folder| root().join(folder)) {
        let file = folder.join("Cargo.toml");
        let manifest: toml::Table = std::fs::read_to_string(&file)?.parse()?;
        let wrong = misplaced(&manifest)?;
        if !wrong.is_empty() {
            return Err(format!("{}: {}", file.display(), wrong.join(", ")).into());
        }
        found += usize::from(manifest.contains_key("target"));
    }
    // The simulator's, and the platform's for the registry: else the tables are called otherwise than here.
    if found < 2 {
        return Err(format!("{found} crates have dependencies of some systems").into());
    }
    let misplaced = |text: &str| misplaced(&text.parse()?);
    for (text, expected) in [
        ("[dependencies]\nserde = '1'", ""),
        ("[dependencies]\nlibc = '1'", "libc"),
        ("[dependencies.c]\npackage = 'rustix'", "rustix"),
        ("[build-dependencies]\nnix = '1'", "nix"),
        ("[dev-dependencies]\nnix = '1'", ""),
        ("[target.'cfg(unix)'.dependencies]\nlibc = '1'", ""),
        ("[target.x86_64-unknown-linux-gnu.dependencies]\nlibc = '1'", ""),
        (
            "[target.'cfg(not(target_os = \"macos\"))'.dependencies]\nlibc = '1'",
            "libc",
        ),
        (
            "[target.'cfg(all(target_os = \"linux\", target_arch = \"x86_64\"))'.dependencies]\nlibc = '1'",
            "",
        ),
        (
            "[target.'cfg(target_arch = \"x86_64\")'.dependencies]\nlibc = '1'",
            "libc",
        ),
    ] {
        let wrong: Result<Vec<String>, Failed> = misplaced(text);
        if wrong?.join(" ") != expected {
            return Err(format!("not `{expected}` was found in:\n{text}").into());
        }
    }
    Ok(())
}

/// Crates of Unix among what a manifest demands on Windows.
fn misplaced(manifest: &toml::Table) -> Result<Vec<String>, Failed> {
    let mut tables = vec![manifest];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    for (target, table) in targets.into_iter().flatten() {
        let is_there = match target.strip_prefix("cfg(").and_then(|rest| rest.strip_suffix(')')) {
            Some(predicate) => holds(&syn::parse_str(predicate)?) != Some(false),
            None => target.contains("windows"),
        };
        if is_there {
            tables.extend(table.as_table());
        }
    }
    let mut wrong = Vec::new();
    for table in tables {
        for kind in ["dependencies", "build-dependencies"] {
            let dependencies = table.get(kind).and_then(toml::Value::as_table);
            for (name, dependency) in dependencies.into_iter().flatten() {
                let package = dependency.get("package").and_then(toml::Value::as_str).unwrap_or(name);
                if UNIX_CRATES.contains(&package) {
                    wrong.push(package.to_owned());
                }
            }
        }
    }
    Ok(wrong)
}

fn what_needs_unix_is_found() -> Result<(), Failed> {
    for (text, found) in [
        (
            "use std::os::unix::fs::PermissionsExt;",
            "1: std::os::unix::fs::PermissionsExt",
        ),
        ("use std::{fs, os::{fd::AsFd}};", "1: std::os::fd::AsFd"),
        ("use std::os;", "1: std::os"),
        ("use std::os::linux::*;", "1: std::os::linux"),
        ("use libc::{c_int, kill as stop};", "1: libc::c_int, 1: libc::kill"),
        ("extern crate nix;", "1: nix"),
        ("\nfn f() -> libc::c_int { 0 }", "2: libc::c_int"),
        ("fn f() {\n unsafe { libc::getpid() };\n}", "2: libc::getpid"),
        ("fn f() { println!(\"{}\", libc::getpid()); }", "1: libc::getpid"),
        (
            "fn f() { g!(x, [std::os::unix::net::UnixStream::pair()]) }",
            "1: std::os::unix::net::UnixStream::pair",
        ),
        ("const F: &str = \"/dev/urandom\";", "1: \"/dev/urandom\""),
        (
            "const F: &CStr = c\"/dev/shm\"; const G: &[u8] = b\"/etc\";",
            "1: \"/dev/shm\", 1: \"/etc\"",
        ),
        ("fn f() { let _ = File::open(\"/tmp\"); }", "1: \"/tmp\""),
        (
            "fn f() -> String { format!(\"/proc/{}/maps\", 1) }",
            "1: \"/proc/{}/maps\"",
        ),
        ("#[cfg(windows)] fn f() { libc::getpid(); }", "1: libc::getpid"),
        ("#[cfg(not(target_os = \"macos\"))] use libc::c_int;", "1: libc::c_int"),
        (
            "#[cfg(any(unix, target_arch = \"x86_64\"))] use libc::c_int;",
            "1: libc::c_int",
        ),
        ("#[cfg(feature = \"f\")] use libc::c_int;", "1: libc::c_int"),
        // The line after what is gone, and what is beside it.
        (
            "fn f() {\n #[cfg(unix)]\n let a = libc::a();\n libc::b();\n}",
            "4: libc::b",
        ),
        (
            "#[cfg(unix)] mod a { use libc::a; }\nmod b { use libc::b; }",
            "2: libc::b",
        ),
        (
            "impl A { #[cfg(unix)] fn a() { libc::a() } fn b() { libc::b() } }",
            "1: libc::b",
        ),
        ("#[cfg_attr(unix, allow(dead_code))] fn f() { libc::a() }", "1: libc::a"),
    ] {
        let (problems, _) = read(text)?;
        if problems.join(", ") != found {
            return Err(format!("{problems:?} instead of {found} in:\n{text}").into());
        }
    }
    Ok(())
}

fn what_windows_never_sees_is_left_alone() -> Result<(), Failed> {
    for text in [
        "use std::os::windows::fs::OpenOptionsExt; use std::os::raw::c_int; use std::fs;",
        "/// Not `/dev/null`, nor libc::kill.\nfn f() {}",
        "const A: &str = \"a/dev/null\"; const B: &str = \"/devices\"; const C: &str = \"/\";",
        "fn f(libc: u32) -> u32 { libc + g!(libc) }",
        "fn f() { mine::libc::kill(); }",
        "#[cfg(unix)] use std::os::unix::fs::PermissionsExt;",
        "#[cfg(all(target_os = \"linux\", target_arch = \"x86_64\"))] fn f() { libc::getpid(); }",
        "#[cfg(not(windows))] fn f() { libc::getpid(); }",
        "#[cfg(not(any(windows, target_os = \"wasi\")))] fn f() { libc::getpid(); }",
        "#[cfg(target_family = \"unix\")] mod a { mod b { use libc::c; } }",
        "#[cfg(test)] mod tests { fn f() { libc::getpid(); } }",
        "fn f() { #[cfg(unix)] { libc::getpid(); } #[cfg(unix)] libc::a(); #[cfg(unix)] println!(\"/dev/null\"); }",
        "fn f() { #[cfg(unix)] if libc::a() {} #[cfg(unix)] let _ = libc::b; }",
        "struct A { #[cfg(unix)] a: libc::c_int } fn f() { A { #[cfg(unix)] a: libc::a() }; }",
        "enum A { #[cfg(unix)] A(libc::c_int) } fn f() { match a { #[cfg(unix)] A::A(_) => libc::a(), _ => {} } }",
        "impl A { #[cfg(unix)] fn a() { libc::a() } } trait B { #[cfg(unix)] fn b(c: libc::c_int); }",
        "#![cfg(unix)] use libc::c_int;",
    ] {
        let (problems, _) = read(text)?;
        if !problems.is_empty() {
            return Err(format!("{problems:?} in:\n{text}").into());
        }
    }
    Ok(())
}

fn modules_are_taken_away_with_their_files() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| -> Result<PathBuf, Failed> {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.with_file_name(""))?;
        std::fs::write(&path, text)?;
        Ok(path)
    };
    let lib = write(
        "lib.rs",
        "#[cfg(unix)] mod a; mod b; mod c { mod d; } #[path = \"other.rs\"] mod e; #[cfg(test)] mod tests;",
    )?;
    write("a.rs", "mod f; use libc::a;")?;
    write("a/f.rs", "use libc::f;")?;
    write("b/mod.rs", "mod g; use libc::b;")?;
    write("b/g.rs", "use libc::g;")?;
    write("c/d.rs", "use libc::d;")?;
    write("other.rs", "use libc::e;")?;
    write("tests.rs", "use libc::tests;")?;
    let mut reading = Reading::default();
    reading.file(&lib, true)?;
    let found: BTreeSet<&str> = reading.problems.iter().filter_map(|p| p.rsplit("::").next()).collect();
    let mut all = BTreeSet::new();
    sources(folder.path(), &mut all)?;
    if found != BTreeSet::from(["b", "g", "d", "e"]) || reading.files != all {
        return Err(format!("{:?} in {:?}", reading.problems, reading.files).into());
    }
    Ok(())
}
