/// A table for people: the first columns left, the others right.
pub struct Table {
    left: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names, `left` of them for words.
    pub fn new(left: usize, columns: &[&str]) -> Self {
        Self {
            left,
            rows: vec![columns.iter().map(|&name| name.to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table, each row on a line.
    pub fn to_text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let space = " ".repeat(width - cell.chars().count());
                let gap = if column == 0 { "" } else { "  " };
                line.push_str(gap);
                if column < self.left {
                    line.push_str(cell);
                    line.push_str(&space);
                } else {
                    line.push_str(&space);
                    line.push_str(cell);
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A measured number: three significant digits if it is small, else whole, thousands
/// apart.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 || v == 0.0 => 2,
        _ => 3,
    };
    apart(&format!("{value:.decimals$}"))
}

/// A counted number, thousands apart.
pub fn count(value: u64) -> String {
    apart(&value.to_string())
}

fn apart(text: &str) -> String {
    let (sign, text) = text.split_at(text.len() - text.trim_start_matches('-').len());
    let whole = text.find('.').unwrap_or(text.len());
    let mut apart = sign.to_owned();
    for (i, c) in text.char_indices() {
        if i > 0 && i < whole && (whole - i) % 3 == 0 {
            apart.push(',');
        }
        apart.push(c);
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        for (value, text) in [
            (0.0, "0.00"),
            (0.0654, "0.065"),
            (1.318, "1.32"),
            (12.34, "12.3"),
            (812.6, "813"),
            (1_234.0, "1,234"),
            (1_234_567.8, "1,234,568"),
            (-1_234.0, "-1,234"),
            (-123.0, "-123"),
            (999_999.9, "1,000,000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn counts_are_whole() {
        for (value, text) in [(0, "0"), (50, "50"), (10_000, "10,000")] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn columns_stand_under_their_names() {
        let mut table = Table::new(1, &["what", "µs"]);
        table.row(vec!["a longer name".to_owned(), "1,000".to_owned()]);
        table.row(vec!["b".to_owned(), "–".to_owned()]);
        assert_eq!(
            table.to_text(),
            "what              µs\na longer name  1,000\nb                  –\n"
        );
    }
}
