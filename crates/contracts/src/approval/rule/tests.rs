//! What a rule says, how it is spelled, which calls it answers and what it may not allow.

use super::*;

fn rule(text: &str) -> ParsedRule {
    ParsedRule::parse(text).expect("the rule is read")
}

#[test]
fn a_rule_matches_its_text_and_round_trips() {
    for (text, tool, arguments, fits) in [
        ("file.write", "file.write", r#"{"path":"a"}"#, true),
        ("file.write", "file.read", r#"{"path":"a"}"#, false),
        ("file.write path=notes/**", "file.write", r#"{"path":"notes/a/b.md","text":"x"}"#, true),
        ("file.write path=notes/**", "file.write", r#"{"path":"notes.md"}"#, false),
        ("file.write path=notes/*", "file.write", r#"{"path":"notes/a/b.md"}"#, false),
        ("file.write path=notes/*.md", "file.write", r#"{"path":"notes/a.md"}"#, true),
        ("file.write path=notes/*.md", "file.write", r#"{"text":"notes/a.md"}"#, false),
        (r#"exec argv=["git","status"]"#, "exec", r#"{"argv":["git","status"],"cwd":"."}"#, true),
        (r#"exec argv=["git","status"]"#, "exec", r#"{"argv":["git","status","-s"]}"#, false),
        (r#"send text="a b""#, "send", r#"{"text":"a b"}"#, true),
        (
            "http.request url=https://api.example.com/**",
            "http.request",
            r#"{"url":"https://api.example.com.evil/"}"#,
            false,
        ),
        ("wait seconds:=5 loud:=true", "wait", r#"{"loud":true,"seconds":5}"#, true),
        ("wait seconds=*", "wait", r#"{"seconds":5}"#, false),
        ("wait seconds:=5 only", "wait", r#"{"seconds":5}"#, true),
        ("wait seconds:=5 only", "wait", r#"{"loud":true,"seconds":5}"#, false),
        ("wait only", "wait", r#"{"seconds":5}"#, false),
        ("wait only:=5", "wait", r#"{"only":5,"seconds":5}"#, true),
        // A value is of the type that the rule says.
        ("wait seconds:=5", "wait", r#"{"seconds":"5"}"#, false),
        ("wait seconds:=5", "wait", r#"{"seconds":5.0}"#, true),
        ("wait seconds:=5", "wait", r#"{"seconds":5.5}"#, false),
        ("wait seconds:=9007199254740993", "wait", r#"{"seconds":9007199254740992}"#, false),
        ("run on=[1,2]", "run", r#"{"on":[1.0,2]}"#, true),
        ("run on=[1,2]", "run", r#"{"on":[1,2,2]}"#, false),
        (r#"wait seconds="5""#, "wait", r#"{"seconds":"5"}"#, true),
        (r#"wait seconds="5""#, "wait", r#"{"seconds":5}"#, false),
        (r#"wait seconds="true""#, "wait", r#"{"seconds":true}"#, false),
        ("wait seconds:=null", "wait", r#"{"seconds":null}"#, true),
        ("wait seconds:=null", "wait", "{}", false),
        ("wait seconds=5s", "wait", r#"{"seconds":"5s"}"#, true),
        (r#"send to:="a*""#, "send", r#"{"to":"a*"}"#, true),
        (r#"send to:="a*""#, "send", r#"{"to":"ab"}"#, false),
    ] {
        let read = rule(text);
        assert_eq!(read.matches_call(tool, arguments), fits, "{text} {arguments}");
        assert_eq!(read.to_string(), text);
        assert!(!read.matches_call(tool, "no json"));
    }
    assert_eq!(rule("  t   a=x ").to_string(), "t a=x");
    assert_eq!(rule("t  a=x  only ").to_string(), "t a=x only");
    assert_eq!(rule(r#"t a:=["x"] b:=1"#).to_string(), r#"t a=["x"] b:=1"#, "a list has one spelling");
}

#[test]
fn a_malformed_rule_is_refused_with_its_place() {
    for (text, at) in [
        ("", 0),
        ("*", 0),
        ("file.* path=a", 0),
        ("t a", 2),
        ("t only a=1", 2),
        ("t a=x onlY", 6),
        ("t =a", 2),
        ("t :=1", 2),
        ("t a=x a=y", 6),
        ("t a=x a:=1", 6),
        ("t a=[1", 4),
        ("t a:=x", 5),
        ("t a:=", 5),
        ("t a:= 1", 5),
        ("t a:=1x", 5),
        // It could be the text or the number.
        ("t a=1", 4),
        ("t a=true", 4),
        ("t a=null", 4),
        ("t a=-1.5e3", 4),
        (r#"t a="x"y"#, 7),
        ("t a=\u{7}", 4),
    ] {
        let refused = ParsedRule::parse(text).expect_err("it is none");
        assert_eq!(refused.at, at, "{text:?}: {refused}");
    }
    assert!(ParsedRule::parse(&format!("t a={}", "x".repeat(2000))).is_err());
}

#[test]
fn a_rule_names_a_whole_program_and_no_shell() {
    for (text, good) in [
        (r#"exec argv=["git","status"]"#, true),
        (r#"exec argv=["git","status"] cwd=work"#, true),
        (r#"exec argv=["git","status"] cwd=**"#, false),
        ("exec", false),
        ("exec cwd=.", false),
        (r#"exec argv=["/bin/zsh"]"#, false),
        (r#"exec argv=["python3.12","-c","1"]"#, false),
        (r#"exec argv=["env","sh","-c","x"]"#, false),
        (r#"exec argv=["timeout","5","./x"]"#, false),
        (r#"exec argv=["npm","test"]"#, false),
        (r#"shell.execute command="git status""#, false),
        (r#"exec argv=["/usr/bin/git","status"]"#, true),
        (r#"exec argv=["./build"]"#, false),
        (r#"exec argv=["bin/build","--all"]"#, false),
        (r#"exec argv=["../build"]"#, false),
        (r#"exec argv=["/proc/self/cwd/build"]"#, false),
        (r#"exec argv=["./build"] cwd=."#, true),
        (r#"exec argv=["bin/build"] cwd=work"#, true),
        (r#"exec argv=["bin/build"] cwd=*"#, false),
        // The rule of a whole call names everything.
        (r#"exec argv=["./build"] cwd=. timeout_s:=60 only"#, true),
    ] {
        assert_eq!(rule(text).allows_too_much().is_none(), good, "{text}");
    }
}

#[test]
fn a_rule_fixes_where_its_tool_aims_or_says_only() {
    let roles = [
        ("body".to_owned(), ArgumentRole::Payload),
        ("cc".to_owned(), ArgumentRole::Destination),
        ("file".to_owned(), ArgumentRole::Object),
        ("key".to_owned(), ArgumentRole::Credential),
        ("sum".to_owned(), ArgumentRole::Amount),
    ];
    for (text, open) in [
        ("send", Some("cc")),
        ("send body=x sum:=1", Some("cc")),
        ("send cc=ada@example.com", Some("file")),
        ("send cc=** file=notes/*", Some("key")),
        ("send cc=** file=** key=k1", None),
        ("send cc=ada@example.com only", None),
    ] {
        assert_eq!(rule(text).leaves_open(&roles), open, "{text}");
    }
    assert_eq!(rule("send").leaves_open(&roles[..1]), None, "what is carried may be anything");
}

#[test]
fn a_rule_on_unknown_arguments_says_it_never_matches() {
    let closed = serde_json::json!({
        "type": "object", "properties": {"path": {}, "text": {}}, "additionalProperties": false
    });
    assert_eq!(rule("send path=a text=b only").never_answers(&closed), None);
    assert_eq!(
        rule("send path=a pth=b").never_answers(&closed).as_deref(),
        Some("send has no argument pth, so the rule would match no call; it has path, text")
    );
    let needs = serde_json::json!({
        "type": "object", "properties": {"path": {}, "text": {}}, "required": ["path", "text"],
    });
    for (text, answers) in
        [("send", true), ("send only", false), ("send path=a only", false), ("send path=a", true)]
    {
        assert_eq!(rule(text).never_answers(&needs).is_none(), answers, "{text}");
    }
    assert_eq!(rule("send path=a text=b only").never_answers(&needs), None);
    let open = serde_json::json!({"type": "object", "properties": {"path": {}}});
    assert_eq!(rule("send only").never_answers(&open), None, "a call may have no argument");
    assert_eq!(rule("send pth=b").never_answers(&open), None, "others may be there");
}

#[test]
fn an_exact_rule_matches_its_own_call_only() {
    for arguments in [
        r#"{"path":"a b","text":"\"quoted\" [x"}"#,
        r#"{"argv":["sh","-c","x y"],"cwd":".","timeout_s":60}"#,
        r#"{"path":""}"#,
        "{}",
    ] {
        let exact = ParsedRule::for_exact_call("t", arguments).expect("it is spelled");
        assert!(exact.matches_call("t", arguments), "{exact}");
        assert!(!exact.is_wide());
        assert_eq!(rule(&exact.to_string()), exact);
    }
    let exact = ParsedRule::for_exact_call("t", r#"{"a":"x"}"#).expect("it is spelled");
    assert!(!exact.matches_call("t", r#"{"a":"y"}"#) && !exact.matches_call("u", r#"{"a":"x"}"#));
    assert!(!exact.matches_call("t", r#"{"a":"x","b":"y"}"#), "what it leaves out may send something");
    let star = ParsedRule::for_exact_call("t", r#"{"a":"x*"}"#).expect("it is spelled");
    assert!(star.matches_call("t", r#"{"a":"x*"}"#) && !star.matches_call("t", r#"{"a":"xy"}"#), "{star}");
    let number = ParsedRule::for_exact_call("t", r#"{"a":5}"#).expect("it is spelled");
    assert!(number.matches_call("t", r#"{"a":5}"#) && !number.matches_call("t", r#"{"a":"5"}"#), "{number}");
}
