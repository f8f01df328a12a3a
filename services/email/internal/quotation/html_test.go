package quotation_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/quotation"
)

func TestSplitHTML(t *testing.T) {
	t.Parallel()
	const heading = "On Mon, 3 Mar 2025 at 14:05, Jane Roe &lt;<a href='mailto:jane@example.com'>jane@example.com</a>&gt; wrote:"
	const shown = "On Mon, 3 Mar 2025 at 14:05, Jane Roe <jane@example.com> wrote:"
	// In a language that the tables do not have, and with no date.
	const strange = "Jane Roe yazgan"
	reply := quotation.Parts{Reply: "new", Quoted: "old"}
	for name, c := range map[string]struct {
		html string
		want quotation.Parts
	}{
		"empty":                    {"", quotation.Parts{}},
		"text":                     {"a  b\n c", quotation.Parts{Reply: "a b c"}},
		"blocks":                   {"<p>a<p>b</p><div>c<div>d</div>e</div>f<br>g<br><br>h", quotation.Parts{Reply: "a\n\nb\n\nc\nd\ne\nf\ng\n\nh"}},
		"no scripts and styles":    {"<head><title>t</title><style>s</style></head><script>x</script><!-- c -->a", quotation.Parts{Reply: "a"}},
		"entities, table, picture": {"<table><tr><td>a&amp;b<td>&eacute;</tr><tr><td><img alt=':-) '></table>", quotation.Parts{Reply: "a&b é\n:-)"}},
		"pre":                      {"<pre>a  b\n\n  c</pre>d", quotation.Parts{Reply: "a  b\n\n  c\n\nd"}},
		"marks":                    {"new<br>&gt; old<br>&gt; older", quotation.Parts{Reply: "new", Quoted: "> old\n> older"}},
		"gmail": {
			"<div dir=ltr>new</div><br><div class='gmail_quote'><div dir=ltr class='gmail_attr'>" + strange + "<br></div><blockquote class='gmail_quote'>old</blockquote></div>",
			quotation.Parts{Reply: "new", Quoted: strange + "\n\nold"},
		},
		"gmail, answered inside": {
			"<div class='gmail_quote'><div>" + heading + "</div><blockquote class='gmail_quote'>one?</blockquote><div>yes</div><blockquote class='gmail_quote'>two?</blockquote><div>no</div></div>",
			quotation.Parts{Reply: "yes\n\nno", Quoted: shown + "\n\none?\n\ntwo?", Interleaved: true},
		},
		"gmail without a blockquote": {"new<div class='gmail_quote'>old<p>older</div>", quotation.Parts{Reply: "new", Quoted: "old\n\nolder"}},
		"gmail forward": {
			"see<div class='gmail_quote'><div class='gmail_attr'>---------- Forwarded message ---------<br>From: Jane</div>text<blockquote type=cite>older</blockquote></div>",
			quotation.Parts{Reply: "see\n---------- Forwarded message ---------\nFrom: Jane\ntext\n\nolder"},
		},
		"apple forward": {
			"<div>Begin forwarded message:</div><blockquote type='cite'><div>From: Jane</div>text</blockquote>",
			quotation.Parts{Reply: "Begin forwarded message:\n\nFrom: Jane\ntext"},
		},
		"apple":                              {"new<br><div><blockquote type=cite><div>On 3 Mar 2025, Jane wrote:</div>old</blockquote></div>", quotation.Parts{Reply: "new", Quoted: "On 3 Mar 2025, Jane wrote:\nold"}},
		"apple, interleaved":                 {"<blockquote type=cite>one?</blockquote>yes<blockquote type=cite>two?</blockquote>", quotation.Parts{Reply: "yes", Quoted: "one?\n\ntwo?", Interleaved: true}},
		"thunderbird":                        {"new<div class=moz-cite-prefix>" + strange + "<br></div><blockquote type=cite cite='mid:1@example.com'><p>old</p></blockquote>", quotation.Parts{Reply: "new", Quoted: strange + "\n\nold"}},
		"yahoo":                              {"<div>new</div><div id='yahoo_quoted_12' class='yahoo_quoted'><div>" + strange + "</div><div>old<blockquote>older</blockquote>oldest</div></div>", quotation.Parts{Reply: "new", Quoted: strange + "\nold\n\nolder\n\noldest"}},
		"proton":                             {"new<div class=protonmail_quote>" + heading + "<br><blockquote class=protonmail_quote type=cite>old</blockquote></div>", quotation.Parts{Reply: "new", Quoted: shown + "\n\nold"}},
		"zimbra":                             {"new<hr id=zwchr><b>From: </b>Jane<br><b>Sent: </b>Monday<br><br>old", quotation.Parts{Reply: "new", Quoted: "From: Jane\nSent: Monday\n\nold"}},
		"hotmail":                            {"new<hr id=stopSpelling>Date: Monday<br>Subject: x<br>From: Jane<br>old", quotation.Parts{Reply: "new", Quoted: "Date: Monday\nSubject: x\nFrom: Jane\nold"}},
		"a rule of the sender's own":         {"one<hr>two<hr>From: a hill", quotation.Parts{Reply: "one\n\ntwo\n\nFrom: a hill"}},
		"outlook desktop":                    {"<p class=MsoNormal>new</p><div><div style='border:none;border-top:solid #E1E1E1 1.0pt'><p class=MsoNormal><b>From:</b> Jane<br><b>Sent:</b> Monday</p></div></div><p>old</p>", quotation.Parts{Reply: "new", Quoted: "From: Jane\nSent: Monday\n\nold"}},
		"outlook on the web":                 {"new<div id=appendonsend></div><hr><div id=divRplyFwdMsg dir=ltr>" + strange + "</div><div>old</div>", quotation.Parts{Reply: "new", Quoted: strange + "\nold"}},
		"outlook on the web, nothing new":    {"<div id=appendonsend></div><hr><div id=divRplyFwdMsg dir=ltr>From: Jane</div><div>text</div>", quotation.Parts{Reply: "From: Jane\ntext"}},
		"outlook for mac":                    {"new<span id=OLK_SRC_BODY_SECTION><div>" + strange + "</div><div>old</div></span>", quotation.Parts{Reply: "new", Quoted: strange + "\nold"}},
		"gmx":                                {"new<div name=quote style='border-left:2px'><div>old</div></div>", reply},
		"plain blockquote below a heading":   {"new<p>" + heading + "</p><blockquote>old</blockquote>", quotation.Parts{Reply: "new", Quoted: shown + "\n\nold"}},
		"plain blockquote with a line":       {"new<blockquote style='border-left:1px solid blue'>old</blockquote>", reply},
		"indented":                           {"new<blockquote style='margin:0 0 0 40px;border:none'>mine</blockquote>", quotation.Parts{Reply: "new\n\nmine"}},
		"help desk":                          {"new<div>##- Please type your reply above this line -##</div>old", quotation.Parts{Reply: "new", Quoted: "##- Please type your reply above this line -##\nold"}},
		"signature of gmail":                 {"new<div class='gmail_signature' data-smartmail='gmail_signature'><div>Jane</div></div>", quotation.Parts{Reply: "new", Signature: "Jane"}},
		"signature of outlook":               {"new<div id=Signature>Jane</div><div id=appendonsend></div><div id=divRplyFwdMsg>old</div>", quotation.Parts{Reply: "new", Quoted: "old", Signature: "Jane"}},
		"written inside the signature":       {"<div class=gmail_signature>new<br>newer</div>", quotation.Parts{Reply: "new\nnewer"}},
		"unclosed":                           {"new<blockquote type=cite><div>old<div>older", quotation.Parts{Reply: "new", Quoted: "old\nolder"}},
		"closed too often":                   {"</div></blockquote>new<blockquote type=cite>old</div></blockquote></blockquote>newer", quotation.Parts{Reply: "new\n\nnewer", Quoted: "old", Interleaved: true}},
		"a cell ends what is open in it":     {"<div><table><tr><td><blockquote type=cite>old</td><td>new</td></tr></table></div>", quotation.Parts{Reply: "new", Quoted: "old", Interleaved: true}},
		"a cell does not end what is around": {"<blockquote type=cite><table><tr><td>old</blockquote>older</td></tr></table></blockquote>new", quotation.Parts{Reply: "new", Quoted: "old\n\nolder", Interleaved: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := quotation.SplitHTML(c.html)
			require.True(t, ok)
			require.Equal(t, c.want, got)
			requireSameLetters(t, c.html, got)
		})
	}
}

func TestHTMLBounds(t *testing.T) {
	t.Parallel()
	_, ok := quotation.SplitHTML(strings.Repeat("a", quotation.MaxHTML+1))
	require.False(t, ok)

	// Elements nested beyond any bound: the text stays whole.
	const depth = 100_000
	p, ok := quotation.SplitHTML("new" + strings.Repeat("<div>", depth) + "deep" + strings.Repeat("</div>", depth) + "<blockquote type=cite>old</blockquote>")
	require.True(t, ok)
	require.Equal(t, quotation.Parts{Reply: "new\ndeep", Quoted: "old"}, p)

	many := strings.Repeat("<div>a", quotation.MaxLines+1)
	p, ok = quotation.SplitHTML(many + "<blockquote type=cite>old")
	require.True(t, ok)
	require.Empty(t, p.Quoted)
}

func TestInvalidUTF8(t *testing.T) {
	t.Parallel()
	p, ok := quotation.SplitHTML("a\xffb<blockquote type=cite>\xc3")
	require.True(t, ok)
	require.Equal(t, quotation.Parts{Reply: "a\ufffdb", Quoted: "\ufffd"}, p)
	require.Equal(t, quotation.Parts{Reply: "a\xff", Quoted: "> \xc3"}, quotation.Split("a\xff\n> \xc3"))
}
