package identity

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNormalize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind, value, region, want string
		err                       error
	}{
		{kind: "email", value: " Ada.Lovelace@Example.COM ", want: "ada.lovelace@example.com"},
		{kind: "email", value: "ada+news@example.com", want: "ada+news@example.com"},
		{kind: "email", value: "ada@bücher.example", want: "ada@xn--bcher-kva.example"},
		{kind: "email", value: "ada@xn--bcher-kva.example", want: "ada@xn--bcher-kva.example"},
		{kind: "email", value: "ada@BÜCHER.example.", want: "ada@xn--bcher-kva.example"},
		{kind: "email", value: "ada@例え。テスト", want: "ada@xn--r8jz45g.xn--zckzah"},
		{kind: "email", value: "JÖRG@example.com", want: "jörg@example.com"},
		{kind: "email", value: "jo\u0308rg@example.com", want: "jörg@example.com"},
		{kind: "email", value: "o'brien@example.ie", want: "o'brien@example.ie"},
		{kind: "email", value: "ada", err: ErrMalformed},
		{kind: "email", value: "@example.com", err: ErrMalformed},
		{kind: "email", value: "ada@", err: ErrMalformed},
		{kind: "email", value: "ada@localhost", err: ErrMalformed},
		{kind: "email", value: "ada@10.0.0.1", err: ErrMalformed},
		{kind: "email", value: "ada@[10.0.0.1]", err: ErrMalformed},
		{kind: "email", value: "ada lovelace@example.com", err: ErrMalformed},
		{kind: "email", value: "Ada <ada@example.com>", err: ErrMalformed},
		{kind: "email", value: "ada@exa_mple.com", err: ErrMalformed},
		{kind: "email", value: "ada@-example.com", err: ErrMalformed},
		{kind: "email", value: "ada@example..com", err: ErrMalformed},
		{kind: "email", value: strings.Repeat("a", 65) + "@example.com", err: ErrMalformed},
		{kind: "email", value: "ada@" + strings.Repeat("a", 64) + ".com", err: ErrMalformed},
		{kind: "email", value: "ada\x00@example.com", err: ErrMalformed},
		{kind: "email", value: "nobody@shop.invalid", err: ErrPlaceholder},
		{kind: "email", value: "Test@Test.com", err: ErrPlaceholder},
		{kind: "email", value: "null", err: ErrPlaceholder},

		{kind: "phone", value: "+43 1 555 0123", want: "+4315550123"},
		{kind: "phone", value: "0043 1 5550123", region: "AT", want: "+4315550123"},
		{kind: "phone", value: "01 5550123", region: "AT", want: "+4315550123"},
		{kind: "phone", value: "(415) 867-5309", region: "US", want: "+14158675309"},
		{kind: "phone", value: "(415) 867-5309", err: ErrMalformed},
		{kind: "phone", value: "+14158675309 ext. 12", want: "+14158675309;ext=12"},
		{kind: "phone", value: "+14158675309;ext=12", want: "+14158675309;ext=12"},
		{kind: "phone", value: "tel:+1-415-867-5309", want: "+14158675309"},
		{kind: "phone", value: "sip:+14158675309@gw.example;user=phone", want: "+14158675309"},
		{kind: "phone", value: "whatsapp:+14158675309", want: "+14158675309"},
		{kind: "phone", value: "anonymous", err: ErrPlaceholder},
		{kind: "phone", value: "Restricted", err: ErrWithheld},
		{kind: "phone", value: "sip:anonymous@anonymous.invalid", err: ErrWithheld},
		{kind: "phone", value: "+266696687", err: ErrWithheld},
		{kind: "phone", value: "+464", err: ErrWithheld},
		{kind: "phone", value: "112", region: "AT", err: ErrMalformed},
		{kind: "phone", value: "call me", region: "AT", err: ErrMalformed},
		{kind: "phone", value: "+10000000000", err: ErrPlaceholder},
		{kind: "phone", value: "0", err: ErrPlaceholder},

		{kind: "user_id", value: " Ada-4711 ", want: "Ada-4711"},
		{kind: "user_id", value: "1", want: "1"},
		{kind: "user_id", value: "NULL", err: ErrPlaceholder},
		{kind: "user_id", value: "undefined", err: ErrPlaceholder},
		{kind: "user_id", value: "[object Object]", err: ErrPlaceholder},
		{kind: "user_id", value: "00000000-0000-0000-0000-000000000000", err: ErrPlaceholder},
		{kind: "user_id", value: "  ", err: ErrPlaceholder},
		{kind: "user_id", value: "a\nb", err: ErrMalformed},
		{kind: "user_id", value: "a\x85\xff", err: ErrMalformed},
		{kind: "user_id", value: strings.Repeat("x", MaxValueBytes+1), err: ErrMalformed},
		{kind: "anonymous_id", value: "Anonymous", err: ErrPlaceholder},
		{kind: "anonymous_id", value: "5f3c-A ", want: "5f3c-A"},

		{kind: "handle:twitter", value: "@Ada", want: "ada"},
		{kind: "handle:slack", value: "U024BE7LH", want: "U024BE7LH"},
		{kind: "handle:whatsapp", value: "+43 664 5550123", want: "436645550123"},
		{kind: "handle:whatsapp", value: "436645550123", want: "436645550123"},
		{kind: "handle:whatsapp", value: "12", err: ErrMalformed},
		{kind: "handle:instagram", value: "@", err: ErrPlaceholder},
		{kind: "loyalty_card", value: " 0815-A ", want: "0815-A"},
	} {
		got, err := Normalize(c.kind, c.value, c.region)
		if c.err != nil {
			require.ErrorIs(t, err, c.err, "%s %q", c.kind, c.value)
			require.Empty(t, got)
			if len(c.value) > 3 && c.value == strings.TrimSpace(c.value) {
				require.NotContains(t, err.Error(), c.value, "the value is personal")
			}
			continue
		}
		require.NoError(t, err, "%s %q", c.kind, c.value)
		require.Equal(t, c.want, got, "%s %q", c.kind, c.value)
	}
}

func FuzzNormalize(f *testing.F) {
	for _, kind := range []string{"email", "phone", "user_id", "anonymous_id", "handle:twitter", "handle:whatsapp", "handle:slack", "card"} {
		for _, v := range []string{
			"Ada@Example.com", "a@bücher.example", "İ@example.com", "a@ẞ.example", "a@example.com.", "+43 1 5550123", "0664/5550123",
			"+1 415 867 5309 x12", "@@ada", "null", "", "\xff", "sip:1@2", "ﬁ@example.com", "a@example。com",
		} {
			f.Add(kind, v)
		}
	}
	f.Fuzz(func(t *testing.T, kind, value string) {
		once, err := Normalize(kind, value, "AT")
		if err != nil {
			require.Empty(t, once)
			return
		}
		require.NotEmpty(t, once)
		twice, err := Normalize(kind, once, "AT")
		require.NoError(t, err, "%s %q became %q", kind, value, once)
		require.Equal(t, once, twice, "%s %q", kind, value)
	})
}
