package event_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

func TestCleanText(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{"": "", "a": "a", "\x00": "\uFFFD", "a\x00\x00b": "a\uFFFD\uFFFDb"} {
		got, changed := event.CleanText(given)
		require.Equal(t, want, got)
		require.Equal(t, given != want, changed)
	}
}

func TestCleanJSON(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		`{}`:                     `{}`,
		`"a\u0000b"`:             `"a\ufffdb"`,
		`"\\u0000"`:              `"\\u0000"`,
		`"\\\u0000"`:             `"\\\ufffd"`,
		`"\\\\u0000\u0000"`:      `"\\\\u0000\ufffd"`,
		`{"\u0000":"\n\u00000"}`: `{"\ufffd":"\n\ufffd0"}`,
		`"\u00001`:               `"\ufffd1`,
		`\`:                      `\`,
		`"\u000`:                 `"\u000`,
		"\"\x00\\u0000\"":        "\"\uFFFD\\ufffd\"",
	} {
		got, changed := event.CleanJSON(given)
		require.Equal(t, want, got)
		require.Equal(t, given != want, changed, given)
	}
}

func TestSanitizeNULReachesEveryText(t *testing.T) {
	t.Parallel()
	for _, typ := range event.Types() {
		ev := fullEvent(typ)
		ev.NulReplaced = false
		whole := proto.CloneOf(ev)
		require.False(t, event.SanitizeNUL(ev), "nothing to do")
		requireSame(t, whole, ev)

		texts := 0
		eachText(ev.ProtoReflect(), func(_ protoreflect.FieldDescriptor, s string) string { texts++; return s + "\x00" })
		require.True(t, event.SanitizeNUL(ev))
		require.True(t, ev.GetNulReplaced())
		replaced := 0
		eachText(ev.ProtoReflect(), func(fd protoreflect.FieldDescriptor, s string) string {
			require.True(t, strings.HasSuffix(s, "\uFFFD") && !strings.ContainsRune(s, 0), fd.FullName())
			replaced++
			return s
		})
		require.Equal(t, texts, replaced)
		require.False(t, event.SanitizeNUL(ev))
	}
}

func TestSanitizeNULFindsEscapes(t *testing.T) {
	t.Parallel()
	ev := trackEvent()
	ev.GetPayload().GetTracked().PropertiesJson = `{"a":"\u0000"}`
	ev.GetPayload().GetTracked().Name = `not JSON: \u0000`
	require.True(t, event.SanitizeNUL(ev))
	require.JSONEq(t, `{"a":"\ufffd"}`, ev.GetPayload().GetTracked().GetPropertiesJson())
	require.Equal(t, `not JSON: \u0000`, ev.GetPayload().GetTracked().GetName())

	traits := &eventv1.Event{Payload: &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{
		TraitsUpdated: &eventv1.TraitsUpdated{Traits: []*eventv1.Trait{{Name: "n", ValueJson: `"\u0000"`}}},
	}}}
	require.True(t, event.SanitizeNUL(traits))
	require.Equal(t, `"\ufffd"`, traits.GetPayload().GetTraitsUpdated().GetTraits()[0].GetValueJson())
}

func TestSanitizeNULLeavesBytesAndNumbersAlone(t *testing.T) {
	t.Parallel()
	ev := trackEvent()
	ev.ContentDigest = make([]byte, 32)
	want := proto.CloneOf(ev)
	require.False(t, event.SanitizeNUL(ev))
	requireSame(t, want, ev)
	ev.Channel = "\xff\x00"
	require.True(t, event.SanitizeNUL(ev), "also where the event cannot be marshalled")
}

// eachText puts what change says in the place of every text.
func eachText(m protoreflect.Message, change func(protoreflect.FieldDescriptor, string) string) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				eachText(v.List().Get(i).Message(), change)
			}
		case fd.IsList() && fd.Kind() == protoreflect.StringKind:
			for i := range v.List().Len() {
				v.List().Set(i, protoreflect.ValueOfString(change(fd, v.List().Get(i).String())))
			}
		case fd.Message() != nil:
			eachText(v.Message(), change)
		case fd.Kind() == protoreflect.StringKind:
			m.Set(fd, protoreflect.ValueOfString(change(fd, v.String())))
		}
		return true
	})
}

// What is JSON stays JSON, and says the same but for U+0000.
func FuzzCleanJSON(f *testing.F) {
	for _, s := range []string{`{"a":"\u0000"}`, `"\\u0000"`, `["\\\u0000",1]`, `{}`, "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, changed := event.CleanJSON(text)
		require.Equal(t, got != text, changed)
		again, changed := event.CleanJSON(got)
		require.False(t, changed)
		require.Equal(t, got, again)
		if !json.Valid([]byte(text)) {
			return
		}
		var before, after any
		require.NoError(t, json.Unmarshal([]byte(text), &before))
		require.NoError(t, json.Unmarshal([]byte(got), &after))
		wantText, err := json.Marshal(before)
		require.NoError(t, err)
		gotText, err := json.Marshal(after)
		require.NoError(t, err)
		if !strings.Contains(string(wantText), `\u0000`) {
			require.Equal(t, wantText, gotText)
		}
		require.NotContains(t, strings.ReplaceAll(string(gotText), `\\`, ""), `\u0000`)
	})
}
