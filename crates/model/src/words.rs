//! What a `main` prints of an error.

/// Makes the `Debug` form of an error its words.
///
/// A `main` that returns an error prints its `Debug` form, and who reads that wants to know what
/// happened and what to do, not how the error is made. Every public error of these crates uses
/// this instead of deriving `Debug`.
///
/// ```
/// struct NoRoom {
///     bytes: u64,
/// }
///
/// impl std::fmt::Display for NoRoom {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         write!(f, "{} bytes too many; remove what is old", self.bytes)
///     }
/// }
///
/// anabranch_model::debug_is_words!(NoRoom);
///
/// assert_eq!(format!("{:?}", NoRoom { bytes: 7 }), "7 bytes too many; remove what is old");
/// ```
#[macro_export]
macro_rules! debug_is_words {
    ($($error:ty),+ $(,)?) => {$(
        impl ::std::fmt::Debug for $error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(self, f)
            }
        }
    )+};
}
