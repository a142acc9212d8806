//! The state of the terminal view on a screen of any size.

use super::super::{table, units};
use super::browse::{Browser, Pane, Row, Sort};
use super::text::suffix;
use crate::layers::Status;
use crate::layers::label::label;
use crate::layers::view::Scope;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, List, ListState, Paragraph, Wrap};

const HELP: &str = "\
↑ ↓  j k        move            PgUp PgDn g G   far
→ ←  l h        into and out of layers, tree, directories
Enter Space     expand or collapse
Tab             what the layer does / all up to it
/               filter by a part of the path, Esc ends it
s               sort by name or size
e  c            expand all, collapse all
q  Ctrl-C       leave

A added (green)   C changed (yellow)   D removed (red)";

/// Draw everything.
pub fn draw(frame: &mut Frame<'_>, browser: &Browser<'_>, title: &str) {
    let [main, bottom] =
        Layout::vertical([Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(40), Constraint::Percentage(60)]).areas(main);
    let [list, detail] = Layout::vertical([Constraint::Min(3), Constraint::Length(9)]).areas(left);
    layers(frame, browser, title, list);
    details(frame, browser, detail);
    tree(frame, browser, right);
    frame.render_widget(Paragraph::new(status_line(browser)), bottom);
    if browser.help {
        let [across] = Layout::vertical([Constraint::Length(12)])
            .flex(ratatui::layout::Flex::Center)
            .areas(frame.area());
        let [area] = Layout::horizontal([Constraint::Length(62)])
            .flex(ratatui::layout::Flex::Center)
            .areas(across);
        frame.render_widget(Clear, area);
        let help = Paragraph::new(HELP).block(Block::bordered().title("Help"));
        frame.render_widget(help, area);
    }
}

fn frame_of(title: String, active: bool) -> Block<'static> {
    let style = match active {
        true => Style::new().add_modifier(Modifier::BOLD),
        false => Style::new().fg(Color::DarkGray),
    };
    Block::bordered().title(title).border_style(style)
}

/// The lines of `count` that fit around `selected`; lists are long, and only
/// what is seen is made.
fn window(selected: usize, count: usize, height: usize) -> std::ops::Range<usize> {
    let start = selected.saturating_sub(height / 2);
    let start = start.min(count.saturating_sub(height));
    start..count.min(start + height)
}

fn list(frame: &mut Frame<'_>, area: Rect, block: Block<'_>, lines: Vec<Line<'_>>, at: usize) {
    let list = List::new(lines)
        .block(block)
        .highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = ListState::default().with_selected(Some(at));
    frame.render_stateful_widget(list, area, &mut state);
}

fn layers(frame: &mut Frame<'_>, browser: &Browser<'_>, title: &str, area: Rect) {
    let all = &browser.analysis.layers;
    let range = window(
        browser.layer,
        all.len(),
        area.height.saturating_sub(2).into(),
    );
    let lines = all.iter().enumerate().skip(range.start).take(range.len());
    let lines = lines.map(|(number, layer)| {
        Line::raw(format!(
            "{:>3} {:>7}  {}",
            number + 1,
            units::size(layer.size),
            match layer.command.as_str() {
                "" => layer.diff_id.short(),
                command => table::cut(command, 200),
            }
        ))
    });
    let block = frame_of(title.to_owned(), browser.pane == Pane::Layers);
    let at = browser.layer - range.start.min(browser.layer);
    list(frame, area, block, lines.collect(), at);
}

fn details(frame: &mut Frame<'_>, browser: &Browser<'_>, area: Rect) {
    let analysis = browser.analysis;
    let mut text = String::new();
    if let Some(layer) = analysis.layers.get(browser.layer) {
        let count = |status| layer.count(status).entries;
        text = format!(
            "{}  +{} ~{} -{}\nwastes {} below\n",
            layer.diff_id.short(),
            count(Status::Added),
            count(Status::Changed),
            count(Status::Removed),
            units::size(layer.wastes),
        );
    }
    text.push_str(&format!(
        "image {}, wasted {}, duplicated {}\nefficiency {:.4}\n",
        units::size(analysis.total),
        units::size(analysis.wasted),
        units::size(analysis.duplicated),
        analysis.efficiency()
    ));
    if let Some(layer) = analysis.layers.get(browser.layer) {
        text.push_str(&layer.command);
    }
    let block = frame_of("Layer".to_owned(), false);
    let text = Paragraph::new(text).wrap(Wrap { trim: false }).block(block);
    frame.render_widget(text, area);
}

fn tree(frame: &mut Frame<'_>, browser: &Browser<'_>, area: Rect) {
    let scope = match browser.scope {
        Scope::Layer => "What the layer does",
        Scope::Merged => "All layers up to it",
    };
    let sort = match browser.sort {
        Sort::Name => "by name",
        Sort::Size => "by size",
    };
    let range = window(
        browser.cursor,
        browser.rows.len(),
        area.height.saturating_sub(2).into(),
    );
    let rows = browser.rows.iter().skip(range.start).take(range.len());
    let lines = rows.map(|row| line(browser, row)).collect();
    let block = frame_of(format!("{scope}, {sort}"), browser.pane == Pane::Tree);
    let at = browser.cursor - range.start.min(browser.cursor);
    list(frame, area, block, lines, at);
}

fn line(browser: &Browser<'_>, row: &Row) -> Line<'static> {
    let name = browser.analysis.nodes.get(row.node as usize);
    let name = name.map(|n| label(&n.name)).unwrap_or_default();
    let fold = match row.open {
        Some(true) => "▾",
        Some(false) => "▸",
        None => " ",
    };
    let text = format!(
        "{} {:>7} {:indent$}{fold} {name}{}",
        super::text::letter(row.shown.status),
        units::size(row.shown.size),
        "",
        suffix(row.shown.kind),
        indent = row.depth * 2,
    );
    let style = match row.shown.status {
        Some(Status::Added) => Style::new().fg(Color::Green),
        Some(Status::Changed) => Style::new().fg(Color::Yellow),
        Some(Status::Removed) => Style::new().fg(Color::Red),
        None => Style::new(),
    };
    Line::styled(text, style)
}

fn status_line(browser: &Browser<'_>) -> String {
    if browser.typing {
        return format!("/{}█", browser.filter);
    }
    let filter = match browser.filter.as_str() {
        "" => String::new(),
        filter => format!("filter: {filter} (Esc ends it)   "),
    };
    format!("{filter}? help   Tab layer/merged   / filter   s sort   q leave")
}
