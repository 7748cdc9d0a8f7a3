//! As much of Markdown as the checks need: headings, links, code spans, fenced blocks and
//! tables. Line numbers count from 0.

/// A document, taken apart.
#[derive(Debug, Default)]
pub struct Document {
    /// The anchors of its headings.
    pub anchors: Vec<String>,
    /// Targets of its links: line and target.
    pub links: Vec<(usize, String)>,
    /// Its code spans: line and content.
    pub spans: Vec<(usize, String)>,
    /// Its fenced blocks.
    pub blocks: Vec<Block>,
    /// The cells of its tables below the header row.
    pub cells: Vec<Cell>,
}

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// The line of its first content.
    pub line: usize,
    /// What stands behind the opening fence, for example `sh run`.
    pub info: String,
    /// What is in it.
    pub text: String,
}

/// A cell of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its line.
    pub line: usize,
    /// The title of its column.
    pub column: String,
    /// What is in it.
    pub text: String,
}

/// Takes a document apart.
pub fn parse(text: &str) -> Document {
    let mut document = Document::default();
    let mut open: Option<Block> = None;
    let mut columns: Vec<String> = Vec::new();
    for (line, content) in text.lines().enumerate() {
        if let Some(info) = content.trim_start().strip_prefix("```") {
            match open.take() {
                Some(block) => document.blocks.push(block),
                None => {
                    open = Some(Block {
                        line: line + 1,
                        info: info.trim().to_owned(),
                        text: String::new(),
                    });
                }
            }
            continue;
        }
        if let Some(block) = &mut open {
            block.text.push_str(content);
            block.text.push('\n');
            continue;
        }
        if content.starts_with('#') {
            let title = content.trim_start_matches('#').trim();
            document.anchors.push(anchor(title));
        }
        let found = spans(content).into_iter().map(|span| (line, span));
        document.spans.extend(found);
        let found = links(content).into_iter().map(|link| (line, link));
        document.links.extend(found);
        match row(content) {
            None => columns.clear(),
            Some(cells) if columns.is_empty() => columns = cells,
            Some(cells) if cells.iter().all(|cell| is_rule(cell)) => {}
            Some(cells) => {
                for (column, text) in columns.iter().zip(cells) {
                    document.cells.push(Cell {
                        line,
                        column: column.clone(),
                        text,
                    });
                }
            }
        }
    }
    document
}

/// The code spans of one line.
pub fn spans(line: &str) -> Vec<String> {
    line.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The link targets of one line: `[text](target)`, outside code spans.
fn links(line: &str) -> Vec<String> {
    let prose: String = line.split('`').step_by(2).collect();
    prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// The anchor that readers of Markdown give a heading: lower case, spaces as hyphens,
/// punctuation dropped.
fn anchor(title: &str) -> String {
    title
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

fn row(line: &str) -> Option<Vec<String>> {
    let cells = line.trim().strip_prefix('|')?;
    let cells = cells.strip_suffix('|').unwrap_or(cells);
    Some(cells.split('|').map(|c| c.trim().to_owned()).collect())
}

fn is_rule(cell: &str) -> bool {
    !cell.is_empty() && cell.chars().all(|c| c == '-' || c == ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# The log: *durable*\n\
        See [the map](ARCHITECTURE.md#layers), not `[this](one)`, and `cargo xtask test`.\n\
        \n\
        | fault | test |\n\
        | --- | --- |\n\
        | torn tail | `a_torn_tail_is_cut` |\n\
        \n\
        ```sh run\n\
        anabranch --help\n\
        ```\n";

    #[test]
    fn headings_become_anchors() {
        assert_eq!(parse(TEXT).anchors, ["the-log-durable"]);
    }

    #[test]
    fn links_and_code_spans_are_told_apart() {
        let document = parse(TEXT);
        assert_eq!(document.links, [(1, "ARCHITECTURE.md#layers".to_owned())]);
        let spans: Vec<_> = document.spans.iter().map(|(_, span)| span).collect();
        assert_eq!(
            spans,
            ["[this](one)", "cargo xtask test", "a_torn_tail_is_cut"]
        );
    }

    #[test]
    fn cells_know_their_column() {
        let cells = parse(TEXT).cells;
        assert_eq!(cells.len(), 2);
        assert_eq!((cells[1].line, cells[1].column.as_str()), (5, "test"));
        assert_eq!(cells[1].text, "`a_torn_tail_is_cut`");
    }

    #[test]
    fn blocks_keep_their_info_and_their_lines() {
        let block = Block {
            line: 8,
            info: "sh run".to_owned(),
            text: "anabranch --help\n".to_owned(),
        };
        assert_eq!(parse(TEXT).blocks, [block]);
    }
}
