//! The paths that a source file names, in `use` lines, in code and in macro calls.

use anyhow::Result;
use proc_macro2::{Delimiter, Group, Ident, Spacing, TokenStream, TokenTree};

/// A path and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its names, such as `["std", "fs", "File"]`.
    pub(super) path: Vec<String>,
    /// Its line, from 1.
    pub(super) line: usize,
}

/// All paths of a source text, except in what stands under `#[cfg(test)]`. Single names are paths too.
pub(super) fn of(text: &str) -> Result<Vec<Found>> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut found = Vec::new();
    walk(tokens, &[], &mut found);
    Ok(found)
}

/// Walks tokens; paths in a `use a::b::{…}` group begin with `prefix`.
fn walk(tokens: TokenStream, prefix: &[String], found: &mut Vec<Found>) {
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                if let Some(TokenTree::Group(attribute)) = rest.peek()
                    && is_test_only(attribute)
                {
                    rest.next();
                    skip_item(&mut rest);
                }
            }
            // `use a::{b as c}` names `b`.
            TokenTree::Ident(word) if !prefix.is_empty() && word == "as" => drop(rest.next()),
            TokenTree::Ident(first) => path(&first, prefix, &mut rest, found),
            TokenTree::Group(group) => walk(group.stream(), &[], found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

type Tokens = std::iter::Peekable<proc_macro2::token_stream::IntoIter>;

/// Reads on after a path's first name.
fn path(first: &Ident, prefix: &[String], rest: &mut Tokens, found: &mut Vec<Found>) {
    let line = first.span().start().line;
    let mut path = prefix.to_vec();
    path.push(name(first));
    while takes_separator(rest) {
        match rest.peek() {
            Some(TokenTree::Ident(next)) => {
                path.push(name(next));
                rest.next();
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                walk(group.stream(), &path, found);
                rest.next();
                return;
            }
            _ => break,
        }
    }
    // `use a::{self}` names `a` itself.
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    found.push(Found { path, line });
}

/// Takes `::` when it comes next.
fn takes_separator(rest: &mut Tokens) -> bool {
    let mut ahead = rest.clone();
    let colon = |token: Option<TokenTree>, spacing| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == ':' && (spacing == Spacing::Alone || p.spacing() == spacing));
    if colon(ahead.next(), Spacing::Joint) && colon(ahead.next(), Spacing::Alone) {
        *rest = ahead;
        return true;
    }
    false
}

fn name(ident: &Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

fn is_test_only(attribute: &Group) -> bool {
    attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// Passes one item: up to its braces or its semicolon.
fn skip_item(rest: &mut Tokens) {
    for token in rest {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return,
            TokenTree::Punct(mark) if mark.as_char() == ';' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        of(text).unwrap().iter().map(|found| found.path.join("::")).collect()
    }

    #[test]
    fn nested_use_groups_give_whole_paths() {
        let found = names("use a::{b, c::{self, d as e}, f::*};");
        assert_eq!(found, ["use", "a::b", "a::c", "a::c::d", "a::f"]);
    }

    #[test]
    fn paths_in_code_types_and_macros_are_found_with_their_lines() {
        let found = of("fn f() -> a::B {\n  vec![c::d(e::<g::H>())]\n}").unwrap();
        let at = |path: &str| found.iter().find(|f| f.path.join("::") == path).map(|f| f.line);
        assert_eq!((at("a::B"), at("c::d"), at("g::H")), (Some(1), Some(2), Some(2)));
    }

    #[test]
    fn what_is_for_tests_only_is_left_out() {
        let found = names("#[cfg(test)]\nuse a::b;\n#[cfg(test)]\nmod tests { use c::d; }\nuse e::f;");
        assert_eq!(found, ["use", "e::f"]);
    }
}
