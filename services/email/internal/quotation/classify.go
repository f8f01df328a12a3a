package quotation

import "strings"

// classify gives each line its kind, Reply or Quoted, in one pass from the top.
func (d *document) classify() {
	d.content = len(d.lines)
	for i := 0; i < len(d.lines); {
		i = d.step(i)
	}
}

// step decides on line i, and maybe on more, and gives the next one to look at.
func (d *document) step(i int) int {
	n := len(d.lines)
	l := &d.lines[i]
	if d.beginsElement(i) && d.isForwarded(i) {
		return d.forward(i)
	}
	if l.flags&flagQuoted != 0 {
		return d.quote(i, i+1)
	}
	if d.isForwarded(i) {
		return d.forward(i)
	}
	if d.isReplyAbove(i) {
		if d.newAbove(i) {
			return d.quote(i, n)
		}

		return d.quote(i, i+1)
	}
	if l.flags&flagCut != 0 {
		return d.copied(i, i)
	}
	if d.isOriginalMessage(i) {
		end, ok := d.headerBlock(i+1, true)
		if !ok {
			end = i + 1
		}

		return d.copied(i, end)
	}
	above := i
	if i > 0 && d.isRule(i-1) && l.blank < 2 {
		above = i - 1
	}
	if d.labelOf(i) != labelNone {
		if end, ok := d.headerBlock(i, above < i || l.flags&flagRule != 0); ok {
			return d.copied(above, end)
		}
	}
	if next, ok := d.quotation(i); ok {
		return next
	}
	l.kind = kindReply
	if d.firstNew < 0 && !d.isRule(i) && !isDeviceNote(d.trimmed(i)) {
		d.firstNew = i
	}

	return i + 1
}

// quote makes the lines [from,to) Quoted and returns to.
func (d *document) quote(from, to int) int {
	d.take(from, to, kindQuoted)
	if d.firstNew >= from {
		d.firstNew = -1
	}
	if d.firstQuoted < 0 {
		d.firstQuoted = from
	}

	return to
}

// forward makes all from line i on content that is passed on.
func (d *document) forward(i int) int {
	d.content = i

	return d.take(i, len(d.lines), kindReply)
}

// take gives the lines [from,to) a kind and returns to.
func (d *document) take(from, to int, k kind) int {
	for i := from; i < to; i++ {
		d.lines[i].kind = k
	}

	return to
}

// copied handles the copy of a mail whose heading takes the lines [from,end).
// Marks on each line below bound it. Without any it goes on to the end of the
// text; then it is a quotation only below something new, because forwarding
// without a comment looks the same.
func (d *document) copied(from, end int) int {
	n := len(d.lines)
	if d.quoted(end) && end > from {
		return d.quote(from, end)
	}
	if d.newAbove(from) {
		return d.quote(from, n)
	}

	return d.forward(from)
}

// quotation handles line i if a heading such as "On …, … wrote:" ends with it.
func (d *document) quotation(i int) (next int, ok bool) {
	n := len(d.lines)
	followed := d.quoted(i+1) && d.lines[i+1].blank < 3
	if !followed && d.featuresIfColon(i)&featColon == 0 {
		return i, false
	}
	start, s := d.attribution(i)
	switch {
	case s == noHeading:
		return i, false
	case followed:
		return d.quote(start, i+1), true
	case s != strongHeading || i+1 == n || !d.newAbove(start):
		return i, false
	case d.lastQuoted > i:
		// Marked lines further down: the lines between may be answers.
		return d.quote(start, i+1), true
	default:
		return d.quote(start, n), true
	}
}

// featuresIfColon spares lines that cannot end a heading the closer look.
func (d *document) featuresIfColon(i int) features {
	s := d.trimmed(i)
	if !strings.HasSuffix(strings.TrimRight(s, "*"), ":") && !strings.HasSuffix(s, "：") {
		return 0
	}

	return d.featuresOf(i)
}

// beginsElement reports whether a quoting element begins with line i.
func (d *document) beginsElement(i int) bool {
	return d.lines[i].flags&flagElement != 0 && (i == 0 || d.lines[i-1].flags&flagElement == 0)
}

// markBlockquotes decides on plain blockquotes: below a heading they quote.
func (d *document) markBlockquotes() {
	for _, b := range d.blocks {
		if b.from == 0 || b.from >= b.to || d.quoted(b.from) {
			continue
		}
		if _, s := d.attribution(b.from - 1); s == noHeading {
			continue
		}
		for i := b.from; i < b.to; i++ {
			d.lines[i].flags |= flagQuoted | flagElement
		}
		d.lastQuoted = max(d.lastQuoted, b.to-1)
	}
}
