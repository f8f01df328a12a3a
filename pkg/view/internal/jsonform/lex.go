package jsonform

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// What follows reads JSON's marks, words and strings.

func (d *decoder) space() {
	for d.pos < len(d.in) {
		switch d.in[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

// peek is the next byte that is no space; 0 at the end.
func (d *decoder) peek() byte {
	if d.space(); d.pos < len(d.in) {
		return d.in[d.pos]
	}
	return 0
}

func (d *decoder) expect(c byte) error {
	if d.peek() != c {
		return errSyntax
	}
	d.pos++
	return nil
}

// more goes to the next element of a list or object; false behind the last.
func (d *decoder) more(first bool, closing byte) (bool, error) {
	switch c := d.peek(); {
	case c == closing:
		d.pos++
		return false, nil
	case first:
		return true, nil
	case c == ',':
		d.pos++
		return true, nil
	default:
		return false, errSyntax
	}
}

// word is a number or one of true and false.
func (d *decoder) word() []byte {
	from := d.pos
	for d.pos < len(d.in) {
		switch c := d.in[d.pos]; {
		case c >= '0' && c <= '9', c == '-', c == '+', c == '.', c >= 'a' && c <= 'z', c == 'E':
			d.pos++
		default:
			return d.in[from:d.pos]
		}
	}
	return d.in[from:]
}

// string reads a string, which is good until the next one.
func (d *decoder) string() ([]byte, error) {
	if err := d.expect('"'); err != nil {
		return nil, err
	}
	rest := d.in[d.pos:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return nil, errSyntax
	}
	escape := bytes.IndexByte(rest[:end], '\\')
	if escape < 0 {
		d.pos += end + 1
		return rest[:end], nil
	}
	d.text = append(d.text[:0], rest[:escape]...)
	d.pos += escape
	for d.pos < len(d.in) {
		switch c := d.in[d.pos]; c {
		case '"':
			d.pos++
			return d.text, nil
		case '\\':
			if err := d.escape(); err != nil {
				return nil, err
			}
		default:
			d.text = append(d.text, c)
			d.pos++
		}
	}
	return nil, errSyntax
}

// escape takes an escape and appends what it stands for to d.text.
func (d *decoder) escape() error {
	if d.pos+1 >= len(d.in) {
		return errSyntax
	}
	c := d.in[d.pos+1]
	d.pos += 2
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r, err := d.hex()
		if err != nil {
			return err
		}
		if utf16.IsSurrogate(r) {
			if !bytes.HasPrefix(d.in[d.pos:], []byte(`\u`)) {
				return errSyntax
			}
			d.pos += 2
			low, err := d.hex()
			if err != nil {
				return err
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return errSyntax
			}
		}
		d.text = utf8.AppendRune(d.text, r)
		return nil
	default:
		return errSyntax
	}
	d.text = append(d.text, c)
	return nil
}

func (d *decoder) hex() (rune, error) {
	if d.pos+4 > len(d.in) {
		return 0, errSyntax
	}
	n, err := strconv.ParseUint(string(d.in[d.pos:d.pos+4]), 16, 32)
	if err != nil {
		return 0, errSyntax
	}
	d.pos += 4
	return rune(n), nil
}
