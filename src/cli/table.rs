//! Columns as docker prints them: as wide as the widest cell and three blanks,
//! ten characters at least; nothing behind the last.

use std::io::Write;

/// Blanks between columns.
const GAP: usize = 3;
/// No column but the last takes less, blanks included.
const NARROWEST: usize = 10;

/// Print rows; the first is the heading.
///
/// # Errors
/// When `out` cannot be written.
pub fn print<Cell: AsRef<str>>(out: &mut dyn Write, rows: &[Vec<Cell>]) -> std::io::Result<()> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.as_ref().chars().count());
        }
    }
    let mut line = String::new();
    for row in rows {
        line.clear();
        for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let cell = cell.as_ref();
            line.push_str(cell);
            if i + 1 < row.len() {
                let blanks = (width + GAP).max(NARROWEST) - cell.chars().count();
                line.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// At most `width` characters, the last one `…` if some are missing.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut out = Vec::new();
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        print(&mut out, &[row("A", "B"), row("äöü", "x")]).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "A         B\näöü       x\n"
        );
        assert_eq!(cut("12345", 5), "12345");
        assert_eq!(cut("123456", 5), "1234…");
    }
}
