package quotation_test

import (
	"strings"
	"testing"

	"github.com/parleyhq/parley/services/email/internal/quotation"
)

// ordinary is a mail of about 20 kB: an answer above the copies of a long thread.
func ordinary(newLine, open, shut string) string {
	var b strings.Builder
	b.WriteString("Hello," + newLine + newLine + "the parcel did not come on Monday either." + newLine + newLine + "Kind regards," + newLine + "Jane Roe" + newLine + "+44 20 7946 0000" + newLine + newLine)
	for b.Len() < 20_000 {
		b.WriteString("On Mon, 3 Mar 2025 at 14:05, Help <help@example.com> wrote:" + newLine + open)
		for range 12 {
			b.WriteString("> we are sorry to hear that, and will look after it at once." + newLine)
		}
		b.WriteString(shut + newLine)
	}

	return b.String()
}

func BenchmarkSplit(b *testing.B) {
	for name, text := range map[string]string{
		"ordinary/20kB":    ordinary("\n", "", ""),
		"marks/1MB":        strings.Repeat("> ", 1<<19),
		"marked lines/1MB": strings.Repeat("> \n>x\n", 1<<20/6),
		"headings/1MB":     strings.Repeat("On Mon, wrote:\n", 1<<20/15),
		"dated/1MB":        strings.Repeat("On 3/3/2025 14:05 a@b wrote\n", 1<<20/28),
		"fields/1MB":       strings.Repeat("From: a@b\n\n", 1<<20/11),
		"delimiters/1MB":   strings.Repeat("--\n\n>a\n", 1<<20/8),
		"notes/1MB":        strings.Repeat("Sent from my iPhone\n> a\n", 1<<20/24),
		"returns/1MB":      strings.Repeat("\r", 1<<20),
		"spaces/1MB":       strings.Repeat(" ", 1<<20),
		"one line/1MB":     strings.Repeat("wrote: ", 1<<20/7),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				quotation.Split(text)
			}
		})
	}
}

func BenchmarkSplitHTML(b *testing.B) {
	for name, text := range map[string]string{
		"ordinary/20kB":   ordinary("<br>\n", "<blockquote type=cite>", "</blockquote>"),
		"nested/1MB":      strings.Repeat("<div>", 1<<20/5),
		"quotes/1MB":      strings.Repeat("<blockquote>a", 1<<20/13),
		"containers/1MB":  strings.Repeat("<div class=gmail_quote>a</div>", 1<<20/30),
		"unmatched/1MB":   strings.Repeat("<div>", 255) + strings.Repeat("</section>", 1<<20/10),
		"cells/1MB":       strings.Repeat("<table><tr><td>a", 1<<20/16),
		"open tags/1MB":   strings.Repeat("<a ", 1<<20/3),
		"attributes/1MB":  "<div " + strings.Repeat("a=1 ", 1<<18) + ">",
		"entities/1MB":    strings.Repeat("&amp", 1<<18),
		"comments/1MB":    strings.Repeat("<!--", 1<<18),
		"line breaks/1MB": strings.Repeat("a<br>", 1<<20/5),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				quotation.SplitHTML(text)
			}
		})
	}
}
