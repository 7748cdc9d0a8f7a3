//! Reads invoices as orders and returns.

use std::collections::BTreeMap;
use std::path::Path;

use retail::input::{Encoding, Failure, Rows};
use retail::row::Row;

use crate::orders::Line;

/// What a file asks of the shop.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Orders and returns, in the order of their first rows.
    pub invoices: Vec<Invoice>,
    /// What was passed over.
    pub skipped: Skipped,
}

/// What was passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// Lines that are not about goods.
    pub lines: u64,
    /// Orders without a line about goods.
    pub orders: u64,
}

/// An order or a return.
#[derive(Debug, PartialEq, Eq)]
pub struct Invoice {
    /// Its number.
    pub number: String,
    /// Whether goods come back.
    pub is_return: bool,
    /// Who; `guest` if unknown.
    pub customer: String,
    /// Where the customer lives.
    pub country: String,
    /// When its first line was written.
    pub at: String,
    /// The goods.
    pub lines: Vec<Line>,
}

/// The work that `path` asks for; `-` is standard input.
pub fn read(path: &Path) -> Result<Work, Failure> {
    collect(retail::input::rows(path, Encoding::Utf8)?)
}

/// The work of the sample day, 1 December 2010.
pub fn sample_day() -> Result<Work, Failure> {
    collect(Rows::new(Box::new(retail::FIRST_DAY), Encoding::Utf8)?)
}

fn collect(rows: impl Iterator<Item = Result<Row, Failure>>) -> Result<Work, Failure> {
    let mut work = Work::default();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        let row = row?;
        let is_order = row.invoice.bytes().all(|b| b.is_ascii_digit());
        let is_return = row.invoice.starts_with('C');
        if !is_order && !is_return {
            work.skipped.lines += 1;
            continue;
        }
        let place = match places.get(&row.invoice) {
            Some(place) => *place,
            None => {
                let place = work.invoices.len();
                places.insert(row.invoice.clone(), place);
                work.invoices.push(Invoice {
                    is_return,
                    customer: row.customer.unwrap_or_else(|| "guest".to_owned()),
                    country: row.country,
                    at: row.invoiced_at,
                    lines: Vec::new(),
                    number: row.invoice,
                });
                place
            }
        };
        match goods(is_return, row.sku, row.quantity, row.unit_price_thousandths) {
            Some(line) => work.invoices[place].lines.push(line),
            None => work.skipped.lines += 1,
        }
    }
    let is_empty_order = |invoice: &Invoice| invoice.lines.is_empty() && !invoice.is_return;
    work.skipped.orders = work.invoices.iter().filter(|i| is_empty_order(i)).count() as u64;
    work.invoices.retain(|invoice| !invoice.lines.is_empty());
    Ok(work)
}

/// A line about goods: bought ones, or ones that come back.
fn goods(is_return: bool, product: String, quantity: i64, mills: i64) -> Option<Line> {
    let quantity = if is_return {
        quantity.checked_neg()?
    } else {
        quantity
    };
    (quantity > 0 && mills > 0).then(|| Line {
        product,
        quantity: quantity.unsigned_abs(),
        mills: mills.unsigned_abs(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work_of(rows: &str) -> Work {
        const HEADER: &str =
            "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";
        let text = format!("{HEADER}{rows}");
        let plain = Box::new(std::io::Cursor::new(text.into_bytes()));
        collect(Rows::new(plain, Encoding::Utf8).unwrap()).unwrap()
    }

    #[test]
    fn lines_of_one_invoice_are_one_order_wherever_they_stand() {
        let work = work_of(
            "536365,85123A,A,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n\
             536366,22633,B,1,2010-12-01 08:28:00,1.85,,France\n\
             536365,85123A,A,2,2010-12-01 08:27:00,2.55,17850.0,United Kingdom\n",
        );
        let numbers: Vec<_> = work.invoices.iter().map(|i| i.number.as_str()).collect();
        assert_eq!(numbers, ["536365", "536366"]);
        assert_eq!(work.invoices[0].lines.len(), 2);
        assert_eq!(work.invoices[0].at, "2010-12-01T08:26:00");
        assert_eq!(work.invoices[0].customer, "17850");
        assert_eq!(work.invoices[1].customer, "guest");
    }

    #[test]
    fn what_is_not_about_goods_is_skipped_and_counted() {
        let work = work_of(
            "536365,85123A,A,0,2010-12-01 08:26:00,2.55,1,UK\n\
             536365,85123A,A,1,2010-12-01 08:26:00,0,1,UK\n\
             C536379,D,A,-1,2010-12-01 09:41:00,27.5,1,UK\n\
             C536380,D,A,1,2010-12-01 09:41:00,27.5,1,UK\n\
             A563185,B,A,1,2010-12-01 09:41:00,27.5,,UK\n",
        );
        assert_eq!(
            work.skipped,
            Skipped {
                lines: 4,
                orders: 1
            }
        );
        assert_eq!(work.invoices.len(), 1);
        assert!(work.invoices[0].is_return);
        let line = &work.invoices[0].lines[0];
        assert_eq!((line.quantity, line.mills), (1, 27_500));
    }

    #[test]
    fn the_sample_day_is_what_it_says() {
        let work = sample_day().unwrap();
        assert!(work.invoices.iter().all(|i| i.at.starts_with("2010-12-01")));
        assert!(work.invoices.len() > 100);
    }
}
