use super::*;

#[test]
fn objects_keep_their_order_and_have_each_member_once() {
    let text = r#"{"z":1,"a":[null,true,-1,18446744073709551615,0.5,"\n"],"m":{}}"#;
    let json = parse(text);
    assert_eq!(serde_json::to_string(&json).unwrap(), text);
    assert_eq!(
        json.to_string(),
        r#"{ z = 1, a = [null, true, -1, 18446744073709551615, 0.5, "\n"], m = {} }"#
    );
    let error = Json::parse(r#"{"a":{"b":1,"b":2}}"#).unwrap_err();
    assert!(error.to_string().starts_with("`b` is there twice"), "{error}");
}

#[test]
fn texts_are_equal_with_quotes_and_without() {
    assert_eq!(Json::Word("DROP".to_owned()), Json::from("DROP"));
    assert_ne!(Json::from("1"), Json::from(1));
    assert_ne!(Json::Null, Json::from(""));
}
