//! Nothing is allocated for a message: a compiled template renders from values that are filled in anew for every trigger,
//! in memory that is there already. A test binary of its own, since it counts every allocation of its thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;

use retrigger::templates::{Data, Escape, OnMissing, Scope, Template, TemplateSource, ValuePath, Workspace};
use retrigger::triggers::{Properties, Values, Wanted};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// The only way to see allocations: everything is handed on to the system's allocator as it is.
#[expect(unsafe_code, reason = "an allocator is unsafe by its nature")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TEMPLATE: &str = "{{p.name}} {{{p.price}}} {{#if (gt p.price 10)}}{{upper p.name}}{{else}}{{lower p.name}}{{/if}}\
    {{#each p.items}}{{@index}}{{#if @last}}.{{else}},{{/if}}{{name}} {{number price decimals=2 thousands=\",\"}}{{../p.count}}{{/each}}\
    {{#p.items}}{{#sold}}-{{/sold}}{{lookup this \"name\"}}{{/p.items}}{{#with p.address as |a|}}{{a.city}}{{/with}}\
    {{default p.absent p.count}} {{p.items.length}} {{p.name.length}} {{p.name.0}} {{#unless p.absent}}{{p.yes}}{{/unless}}\
    {{> footer sender=p.name}}{{#> box}}{{p.count}}{{/box}}";

const ROWS: [&str; 2] = [
    r#"{"name":"Ada & \"Co\"","price":1234.5,"count":3,"yes":true,"items":[{"name":"a","price":12345,"sold":true},{"name":"<b>","price":0.5,"sold":false}],"address":{"city":"Z\u00fcrich"}}"#,
    r#"{"address":{"city":"Rom"},"name":"Zoe","price":2,"items":[],"count":-7,"yes":false,"more":[1,{"x":[]}]}"#,
];

#[test]
fn nothing_is_allocated_for_a_message() {
    let source = |file: &str, text: &str| TemplateSource { file: file.to_owned(), text: text.to_owned() };
    let partials = [("footer", "--{{sender}}--\n"), ("box", "[{{> @partial-block}}]")];
    let partials: BTreeMap<_, _> = partials.map(|(name, text)| (name.to_owned(), source(name, text))).into();
    let text = TEMPLATE.replace("p.", "api_trigger_properties.");
    let template = Template::compile(&source("copy", &text), &partials, Escape::Html, OnMissing::Blank).expect("valid");
    assert_eq!(template.not_compiled(), None);

    let name = |ask: &ValuePath| ask.to_string().replace("api_trigger_properties.", "");
    let names: Vec<(String, u32)> = template.asks().iter().map(name).zip(0..).collect();
    let slots: Vec<u32> = (0..).take(template.asks().len()).collect();
    let wanted = Wanted::new(names, None);
    let scope = || -> Scope { unreachable!("the template is compiled") };
    let (mut values, mut memory, mut out) = (Values::default(), Workspace::default(), String::new());
    let mut render = |row: &str| {
        values.begin(slots.len());
        Properties::Text(row.into()).fill(&wanted, &mut values);
        let data = Data { values: &values, slots: &slots, bytes: row.len(), scope: &scope };
        out.clear();
        template.append(&data, &mut memory, &mut out).expect("rendered");
        out.len()
    };
    // The first renders ask for room.
    let lengths = ROWS.map(&mut render);
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        assert_eq!(ROWS.map(&mut render), lengths);
    }
    assert_eq!(ALLOCATIONS.get(), before);
}
