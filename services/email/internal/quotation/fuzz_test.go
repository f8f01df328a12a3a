package quotation_test

import (
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/quotation"
)

func FuzzSplit(f *testing.F) {
	for _, heading := range headings {
		f.Add("new\n\n" + heading + "\n> old\n\nnewer\n-- \nJane")
	}
	for _, h := range headers {
		f.Add("new\n____\n" + h[0] + ": a@b\n" + h[1] + ": 3.3.2025\n" + h[3] + ": x\nold\nSent from my iPhone")
	}
	f.Add("a\r\n\r>b\r|c\n|d\n>From e\n\u00a0>>\xc2")
	f.Add("x\n\nRegards,\nJane\n+44 20 7946 0000\n_____________________\nx mailing list")
	f.Fuzz(func(t *testing.T, text string) {
		p := quotation.Split(text)
		requireCovered(t, text, p)
		requireSound(t, p, utf8.ValidString(text))
		require.Equal(t, p, quotation.Split(text))
	})
}

func FuzzSplitHTML(f *testing.F) {
	for _, s := range []string{
		"new<div class='gmail_quote'>On 3/3/2025 14:05 Jane wrote:<blockquote class=gmail_quote>old</blockquote>newer</div>",
		"<table><tr><td>a<td><blockquote>b</td></tr></table></blockquote>c<hr>From: a@b<br>Sent: 1<br>Subject: c",
		"<pre>a\n\n\tb</pre><p>&gt; c<br>&gt;d&nbsp;<img alt='e  f'><textarea>g&lt;</textarea>",
		"<div id=Signature>a</div><div id=divRplyFwdMsg>b<span id=OLK_SRC_BODY_SECTION>c</span><script>d</script>",
		"<blockquote>a<div><blockquote type=cite>b</div></blockquote><td>c</td>\x00\xff&#0;&#xd800;",
		"<iframe><title>a</iframe>b</title><noscript>c<plaintext>d",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		p, ok := quotation.SplitHTML(body)
		require.True(t, ok)
		requireSameLetters(t, body, p)
		requireSound(t, p, true)
		again, _ := quotation.SplitHTML(body)
		require.Equal(t, p, again)
	})
}

// requireSound asserts what holds for the parts of any mail.
func requireSound(t *testing.T, p quotation.Parts, valid bool) {
	t.Helper()
	for _, part := range []string{p.Reply, p.Quoted, p.Signature} {
		require.True(t, !valid || utf8.ValidString(part))
		if part != "" {
			require.NotEmpty(t, visible(part))
			require.NotEqual(t, byte('\n'), part[0])
			require.NotEqual(t, byte('\n'), part[len(part)-1])
		}
	}
	if p.Interleaved {
		require.NotEmpty(t, p.Reply)
		require.NotEmpty(t, p.Quoted)
	}
}
