package match

// packed is a record's features in one string: each value behind its length,
// lists behind their count. It costs no pointers, so that a million of them
// are cheap to keep.
type packed string

// pack appends f to buf. Values are shorter than 256 bytes but for the id,
// whose length takes two bytes.
func (f *features) pack(buf []byte) []byte {
	id := cut(f.id, 1<<16-1)
	buf = append(buf, byte(len(id)>>8), byte(len(id)))
	buf = append(buf, id...)
	for _, v := range [...]string{f.family, f.given, f.birth, f.street, f.number, f.postcode, f.city, f.state, f.country} {
		buf = append(buf, byte(len(v)))
		buf = append(buf, v...)
	}
	for _, l := range [...]*list{&f.emails, &f.phones, &f.ids} {
		buf = append(buf, byte(l.n))
		for _, v := range l.all() {
			buf = append(buf, byte(len(v)))
			buf = append(buf, v...)
		}
	}
	return buf
}

// unpack reads what pack wrote. The values of f share the memory of p.
func (f *features) unpack(p packed) {
	s := string(p)
	n := 2 + int(s[0])<<8 + int(s[1])
	f.id, s = s[2:n], s[n:]
	f.family, s = cutValue(s)
	f.given, s = cutValue(s)
	f.birth, s = cutValue(s)
	f.street, s = cutValue(s)
	f.number, s = cutValue(s)
	f.postcode, s = cutValue(s)
	f.city, s = cutValue(s)
	f.state, s = cutValue(s)
	f.country, s = cutValue(s)
	s = f.emails.unpack(s)
	s = f.phones.unpack(s)
	_ = f.ids.unpack(s)
}

func (l *list) unpack(s string) string {
	l.n, s = int(s[0]), s[1:]
	for i := range l.n {
		l.v[i], s = cutValue(s)
	}
	return s
}

func cutValue(s string) (value, rest string) {
	n := 1 + int(s[0])
	return s[1:n], s[n:]
}

// packedID is the id alone.
func packedID(p packed) string { return string(p[2 : 2+int(p[0])<<8+int(p[1])]) }

// packedValues is all but the id; in its order, family and given name first,
// records that are alike are neighbours.
func packedValues(p packed) string { return string(p[2+int(p[0])<<8+int(p[1]):]) }
