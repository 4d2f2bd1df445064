//! The list of all rules as a page.

use std::fmt::Write;

use crate::options::Policy;
use crate::rule::Rule;

/// All rules with their sources, as Markdown: what `docs/rules.md` has.
pub fn rules_page() -> String {
    let mut text = String::from(
        "# The rules of `bpf2sys check`\n\nMade from the rules themselves; `BLESS=1 cargo test -p bpf2sys --test end_to_end check` \
         rewrites it.\n",
    );
    let mut group = None;
    for rule in Rule::all() {
        if group.replace(rule.group) != Some(rule.group) {
            let title = rule.group.title();
            let _ = write!(
                text,
                "\n## {}{}\n\n| rule | what it demands | otherwise | for | weight | source |\n|---|---|---|---|---|---|\n",
                title[..1].to_uppercase(),
                &title[1..]
            );
        }
        let weight = match rule.from {
            Policy::Hvci => rule.weight.title().to_owned(),
            policy => format!("{}, from policy `{}`", rule.weight.title(), policy.name()),
        };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {weight} | {} |",
            rule.id,
            rule.title,
            rule.why,
            rule.scope.title(),
            rule.source
        );
    }
    text
}
