//! What a client may ask for beside its messages, in the words of each API.

use super::*;

fn asking(tools: Value, choice: Value) -> RequestOptions {
    let tools = serde_json::from_value(tools).expect("they are tools");
    RequestOptions { tools: Some(tools), choice: Some(choice), ..RequestOptions::default() }
}

#[test]
fn each_api_declares_the_same_tool_in_its_own_words() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let function = json!({"name": "mcp__sky__look", "description": "Looks.", "parameters": schema});
    let mut flat = function.clone();
    flat["type"] = json!("function");
    let other = json!({"name": "mcp__sky__look", "description": "Looks.", "input_schema": schema});
    let named = json!({"type": "function", "function": {"name": "mcp__sky__look"}});
    for (form, tool, choice) in [
        (CompatApi::Chat, json!({"type": "function", "function": function}), named),
        (CompatApi::Responses, flat, json!({"type": "function", "name": "mcp__sky__look"})),
        (CompatApi::Messages, other, json!({"type": "tool", "name": "mcp__sky__look"})),
    ] {
        let offer = asking(json!([tool]), choice).into_offer(form).expect("it is declared well").offer;
        let known = ClientTool {
            name: "mcp.sky.look".into(),
            description: "Looks.".into(),
            parameters: schema.clone(),
        };
        assert_eq!(offer.tools, [known], "{form:?}");
        assert_eq!(offer.wishes.choice, ToolChoice::Named("mcp.sky.look".into()), "{form:?}");
    }
}

#[test]
fn an_unsupported_client_tool_is_refused_by_its_place() {
    let tool = |name: &str| json!({"type": "function", "name": name});
    let big = json!({"type": "function", "name": "t", "description": "x".repeat(TOOLS_BYTES_MAX)});
    for (tools, choice, place) in [
        (json!([{"type": "web_search"}]), json!("required"), "tool_choice"),
        (json!([{"type": "web_search"}, {"type": "function"}]), json!("auto"), "tools[1].name"),
        (json!([{}]), json!("auto"), "tools[0]"),
        (json!([tool("a"), tool("a b")]), json!("auto"), "tools[1].name"),
        (json!([tool("a"), tool("a")]), json!("auto"), "tools[1]"),
        (json!([{"type": "function"}]), json!("auto"), "tools[0].name"),
        (json!([{"type": "function", "name": "a", "parameters": []}]), json!("auto"), "tools[0].parameters"),
        (json!([big]), json!("auto"), "tools[0]"),
        (json!(vec![tool("a"); 129]), json!("auto"), "tools"),
        (json!([]), json!("required"), "tool_choice"),
        (json!([tool("a")]), json!({"type": "function", "name": "b"}), "tool_choice"),
        (json!([tool("a")]), json!({"type": "file_search"}), "tool_choice"),
        (json!([tool("a")]), json!("maybe"), "tool_choice"),
    ] {
        let refused = asking(tools, choice).into_offer(CompatApi::Responses).expect_err(place);
        assert_eq!(refused.field_path(), Some(place), "{refused:?}");
    }
    let number = |value: f64| Number::from_f64(value);
    for (asking, place) in [
        (RequestOptions { tokens: Some(("max_tokens", 0)), ..RequestOptions::default() }, "max_tokens"),
        (RequestOptions { temperature: number(2.5), ..RequestOptions::default() }, "temperature"),
        (RequestOptions { top_p: number(-0.1), ..RequestOptions::default() }, "top_p"),
        (RequestOptions { stop: Some(("stop", json!(7))), ..RequestOptions::default() }, "stop"),
        (RequestOptions { stop: Some(("stop", json!(["a", 7]))), ..RequestOptions::default() }, "stop[1]"),
        (RequestOptions { stop: Some(("stop", json!(""))), ..RequestOptions::default() }, "stop"),
    ] {
        assert_eq!(asking.into_offer(CompatApi::Chat).expect_err(place).field_path(), Some(place));
    }
}

#[test]
fn a_schema_is_nested_so_deep_at_most() {
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({"a": inner}));
    for (form, tool, place) in [
        (
            CompatApi::Chat,
            json!({"type": "function", "function": {"name": "a", "parameters": null}}),
            "/function/parameters",
        ),
        (CompatApi::Responses, json!({"type": "function", "name": "a", "parameters": null}), "/parameters"),
        (CompatApi::Messages, json!({"name": "a", "input_schema": null}), "/input_schema"),
    ] {
        let with = |levels| {
            let mut tool = tool.clone();
            *tool.pointer_mut(place).expect("it is there") = nested(levels);
            asking(json!([tool]), Value::Null).into_offer(form)
        };
        assert!(with(SCHEMA_DEPTH_MAX).is_ok(), "{form:?}");
        let refused = with(SCHEMA_DEPTH_MAX + 1).expect_err("it is too deep");
        assert_eq!(refused.field_path(), Some(format!("tools[0]{}", place.replace('/', ".")).as_str()));
    }
}

#[test]
fn choice_none_removes_client_tools_and_sampling_options_stay() {
    let tool = json!([{"name": "a", "input_schema": {}}]);
    let none = asking(tool.clone(), json!({"type": "none"}))
        .into_offer(CompatApi::Messages)
        .expect("it is fine")
        .offer;
    assert!(none.is_empty());
    let choice = json!({"type": "any", "disable_parallel_tool_use": true});
    let one = asking(tool, choice).into_offer(CompatApi::Messages).expect("it is fine").offer;
    assert_eq!((one.wishes.choice, one.wishes.one_call), (ToolChoice::Required, true));
    let tuned = RequestOptions {
        tokens: Some(("max_tokens", 1 << 40)),
        temperature: Number::from_f64(0.5),
        stop: Some(("stop", json!("END"))),
        ..RequestOptions::default()
    };
    let wishes = tuned.into_offer(CompatApi::Chat).expect("it is fine").offer.wishes;
    assert_eq!((wishes.output_tokens_max, wishes.temperature), (Some(u32::MAX), Number::from_f64(0.5)));
    assert_eq!(wishes.stop, ["END"]);
}

#[test]
fn tools_that_a_provider_runs_are_left_out_with_a_warning() {
    for (form, own, foreign) in [
        (
            CompatApi::Responses,
            json!({"type": "function", "name": "a"}),
            json!([{"type": "web_search"}, {"type": "local_shell"}, {"type": "custom", "name": "b"},
                {"type": "namespace", "name": "mcp", "tools": []}, {"type": "näw\n kind"}]),
        ),
        (
            CompatApi::Messages,
            json!({"name": "a", "input_schema": {}}),
            json!([{"type": "web_search_20250305", "name": "web_search"}, {"type": "bash_20250124", "name": "bash"}]),
        ),
    ] {
        let mut tools = foreign.as_array().expect("a list").clone();
        tools.push(own);
        let read = asking(json!(tools), json!(null)).into_offer(form).expect("the others are left out");
        assert_eq!(read.offer.tools.len(), 1, "{form:?}");
        let [warning] = read.warnings.as_slice() else { panic!("one warning: {:?}", read.warnings) };
        assert!(warning.is_ascii() && warning.contains("web_search"), "{warning}");
        assert!(
            form == CompatApi::Messages
                || warning.ends_with("custom, local_shell, namespace, nwkind, web_search")
        );
    }
    let none =
        asking(json!([{"name": "a"}]), json!(null)).into_offer(CompatApi::Messages).expect("it is fine");
    assert!(none.warnings.is_empty());
}
