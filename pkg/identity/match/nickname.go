package match

import "strings"

// nicknames are given names and their short forms, a line for the forms of one
// name; a form may stand in several lines.
const nicknames = `
aaron ron
abigail abby abbie gail
albert al bert bertie
alexander alex alec sandy xander sascha lex alejandro sandro
alexandra alex sandra sandy lexi alexa
alfred al fred alf alfie fredi
amelia millie amy
andrew andy drew andreas andi andre
anna ann anne annie anni annika anja hannah nan
anthony tony anton toni antonio
antonia toni
barbara barb babs barbie baerbel babsi
benjamin ben benny benji
bernhard bernd bernie bernard
brigitte gitte gitti birgit
caroline carol carrie carolin karoline caro karo
catherine cathy kate katie kathy kitty cat katherine kathryn katharina kathrin kathi katja katrin kati
charles charlie chuck chas karl carl carlos
charlotte lottie charlie lotte
christian chris
christina chris tina christine christel kristina kristin christa
christopher chris kit topher christoph stoffel
daniel dan danny dani
david dave davy
deborah deb debbie debra
dorothy dot dottie dorothea dora doris
edward ed eddie ted teddy ned eduard edi
elizabeth liz lizzie beth betty eliza elsie libby bess elisabeth lisa lisi elli else elise sissi liesl
emily em emma emmy
erich erik eric
eugene gene eugen
florian flo
francis frank fran francesco
frances fran fanny franny
franziska franzi
frederick fred freddie freddy friedrich fritz frederik
gabriele gabi
georg george schorsch jorge
gerald gerry jerry
gerhard gerd hardy
gregory greg gregor
gertrude trudy gerti gertrud traude
hans johann johannes hansi hannes john jonny
heinrich heinz heiner henry harry henri
helen nell ellen helena helene leni
henry harry hank hal
herbert bert herb bertl
isabella bella izzy isabel isabelle
jacob jake jakob jack
james jim jimmy jamie jem
jeffrey jeff geoffrey geoff
jennifer jen jenny jenni
jessica jess jessie
joan joanna johanna jo hanna hanni
john jack johnny jon
jonathan jon jonny nathan
joseph joe joey josef sepp pepi jo jose pepe
joshua josh
judith judy
karin karen
kenneth ken kenny
kimberly kim
klaus claus nikolaus niko nicholas nick nicky nico nicolas
lawrence larry laurie lorenz laurence lenz
leonard leo len lenny leonhard leon
leopold leo poldi
lucas luke lukas luc
ludwig luis louis lou lutz
madeline maddie maddy magdalena lena magda leni
manfred fred manni
manuela manu manuel
margaret maggie meg peggy marge greta daisy margarete margarethe gretl grete margit margot rita
maria mary marie mia mizzi mitzi molly polly
marianne anne
martha marty patty
martin marty
matthew matt matty matthias
maximilian max maxi
melissa mel missy
michael mike mick mickey micky michi michel miguel mischa
michaela michi michelle shelly
nancy nan
natalie nat nata natalia natascha
nathaniel nathan nat nate
oliver ollie olli
pamela pam
patricia pat patty tricia trish
patrick pat paddy
paul pauli paulo pablo
peter pete petra pit pedro
philip phil pip philipp
rebecca becky becca
reinhard reini
renate reni
richard rick ricky dick rich ritchie ricardo
robert rob robbie bob bobby bert roberto
roger rod
ronald ron ronnie
rosemary rose rosie rosmarie rosi
rudolf rudi rolf rudolph
samantha sam sammy
samuel sam sammy
sebastian seb basti bastian wastl
sophia sophie sofia sofie
stephanie steph steffi stefanie
stephen steve steven stevie stefan stephan steff esteban
susan sue susie suzanne susanne susi sanne
sylvia silvia silvi
theodore ted teddy theo theodor
theresa terry tess tessa therese resi teresa
thomas tom tommy
timothy tim timmy timo
ulrich uli ulli
ursula uschi ulla
valentin val valentina
victor vic viktor
victoria vicky vicki tori viktoria
vincent vince vinny vinzenz
virginia ginny
walter walt wally walther
werner vern
wilhelm willi willy helmut
william will bill billy willie liam
wolfgang wolf wolfi
zachary zach zack
`

// nicknameLines maps a form to the lines that it stands in.
var nicknameLines = func() map[string][]uint16 {
	lines := map[string][]uint16{}
	n := uint16(0)
	for line := range strings.Lines(nicknames) {
		n++
		for name := range strings.FieldsSeq(line) {
			lines[name] = append(lines[name], n)
		}
	}
	return lines
}()

// sameNickname says that both are forms of one name.
func sameNickname(a, b string) bool {
	linesA, ok := nicknameLines[a]
	if !ok {
		return false
	}
	linesB := nicknameLines[b]
	for _, x := range linesA {
		for _, y := range linesB {
			if x == y {
				return true
			}
		}
	}
	return false
}
