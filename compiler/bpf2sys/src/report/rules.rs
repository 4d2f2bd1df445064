//! Every rule of Windows, of memory integrity and of the runtime, with what was found.

use bpf2sys_check::{Row, Status};

use super::Context;
use super::html::{Html, tag};
use super::parts::{Mark, Section, Table, code, paragraph, prose};

pub(super) fn section(context: &Context<'_>) -> Section {
    let report = context.subject.check;
    let count = |status| report.rows.iter().filter(|row| row.status == status).count();
    let text = format!(
        "By policy {}: {} rules kept, {} broken, {} do not apply. `bpf2sys check --list-rules` has where each comes from.",
        report.policy.name(),
        count(Status::Pass),
        count(Status::Fail),
        count(Status::NotApplicable)
    );
    let mut content = Html::from(paragraph(prose(&text)));
    let broken: Vec<&Row> = report.failures().collect();
    if !broken.is_empty() {
        content.push(table("Broken rules", &broken));
    }
    for rows in report.rows.chunk_by(|a, b| a.group == b.group) {
        let rows: Vec<&Row> = rows.iter().collect();
        let [kept, failed] =
            [Status::Pass, Status::Fail].map(|status| rows.iter().filter(|row| row.status == status).count());
        let title = rows.first().map_or("", |row| row.group.title());
        let broken = (failed > 0).then(|| Html::from(" ").with(Mark::Bad.on(format!("{failed} broken"))));
        let summary = tag("summary")
            .with(title)
            .with(
                tag("span")
                    .class("more")
                    .with(format!(" {kept} of {} kept", rows.len())),
            )
            .with(broken);
        content.push(tag("details").with(summary).with(table(title, &rows)));
    }
    Section::new("rules", "Rules", content)
}

fn table(caption: &str, rows: &[&Row]) -> Html {
    let mut table = Table::new(caption, &["Rule", "Demanded", "Verdict", "Found", "Why"]);
    for row in rows {
        let verdict = match row.status {
            Status::Pass => Mark::Good.on("kept"),
            Status::Fail => Mark::Bad.on("broken"),
            Status::NotApplicable => Mark::Open.on("n.a."),
        };
        table.row([
            Html::from(code(row.rule)),
            row.title.into(),
            verdict.into(),
            Html::from(&row.measured),
            Html::from(&row.reason),
        ]);
    }
    table.into()
}
