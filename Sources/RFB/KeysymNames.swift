/// The names that keymaps give to X keysyms, with their values (X11/keysymdef.h, X11/XF86keysym.h): those that QEMU's keymaps use. Single
/// characters and names like U20AC need no table.
struct KeysymNames {
    private let table: [Substring: UInt32]

    /// Made when a keymap is read, and not kept.
    init() {
        var result: [Substring: UInt32] = [:]
        for entry in Self.text.split(whereSeparator: { $0 == ";" || $0 == "\n" }) {
            let parts = entry.split(separator: " ")
            if parts.count == 2, let value = UInt32(parts[1], radix: 16) { result[parts[0]] = value }
        }
        table = result
    }

    /// The keysym of a name; nil when it is none that is known.
    func value(_ name: Substring) -> UInt32? {
        let bytes = Array(name.utf8)
        if bytes.count == 1, bytes[0] > 0x20, bytes[0] < 0x7f { return UInt32(bytes[0]) }
        if let known = table[name] { return known }
        if bytes.count > 2, name.hasPrefix("0x") { return UInt32(name.dropFirst(2), radix: 16) }
        // A Unicode character: the keysym is its number with 0x01000000 added, for Latin-1 the number itself.
        guard bytes.first == UInt8(ascii: "U"), (5...7).contains(bytes.count), let scalar = UInt32(name.dropFirst(), radix: 16) else { return nil }
        return scalar < 0x100 ? scalar : 0x0100_0000 | scalar
    }

    private static let text = """
        AE c6;Aacute c1;Acircumflex c2;Adiaeresis c4;Agrave c0;Alt_L ffe9;Alt_R ffea;Amacron 3c0;Aogonek 1a1;Arabic_0 1000660;Arabic_1 1000661
        Arabic_2 1000662;Arabic_3 1000663;Arabic_4 1000664;Arabic_5 1000665;Arabic_6 1000666;Arabic_7 1000667;Arabic_8 1000668;Arabic_9 1000669
        Arabic_ain 5d9;Arabic_alef 5c7;Arabic_alefmaksura 5e9;Arabic_beh 5c8;Arabic_comma 5ac;Arabic_dad 5d6;Arabic_dal 5cf;Arabic_damma 5ef
        Arabic_dammatan 5ec;Arabic_fatha 5ee;Arabic_fathatan 5eb;Arabic_feh 5e1;Arabic_gaf 10006af;Arabic_ghain 5da;Arabic_ha 5e7;Arabic_hah 5cd
        Arabic_hamza 5c1;Arabic_hamzaonalef 5c3;Arabic_hamzaonwaw 5c4;Arabic_hamzaonyeh 5c6;Arabic_hamzaunderalef 5c5;Arabic_jeem 5cc
        Arabic_jeh 1000698;Arabic_kaf 5e3;Arabic_kasra 5f0;Arabic_kasratan 5ed;Arabic_khah 5ce;Arabic_lam 5e4;Arabic_maddaonalef 5c2;Arabic_meem 5e5
        Arabic_noon 5e6;Arabic_peh 100067e;Arabic_percent 100066a;Arabic_qaf 5e2;Arabic_question_mark 5bf;Arabic_ra 5d1;Arabic_sad 5d5
        Arabic_seen 5d3;Arabic_semicolon 5bb;Arabic_shadda 5f1;Arabic_sheen 5d4;Arabic_sukun 5f2;Arabic_superscript_alef 1000670;Arabic_tah 5d7
        Arabic_tatweel 5e0;Arabic_tcheh 1000686;Arabic_teh 5ca;Arabic_tehmarbuta 5c9;Arabic_thal 5d0;Arabic_theh 5cb;Arabic_veh 10006a4
        Arabic_waw 5e8;Arabic_yeh 5ea;Arabic_zah 5d8;Arabic_zain 5d2;Aring c5;BackSpace ff08;Cacute 1c6;Cancel ff69;Caps_Lock ffe5;Ccaron 1c8
        Ccedilla c7;Control_L ffe3;Control_R ffe4;Cyrillic_A 6e1;Cyrillic_BE 6e2;Cyrillic_CHE 6fe;Cyrillic_DE 6e4;Cyrillic_DZHE 6bf;Cyrillic_E 6fc
        Cyrillic_EF 6e6;Cyrillic_EL 6ec;Cyrillic_EM 6ed;Cyrillic_EN 6ee;Cyrillic_ER 6f2;Cyrillic_ES 6f3;Cyrillic_GHE 6e7;Cyrillic_HA 6e8
        Cyrillic_HARDSIGN 6ff;Cyrillic_I 6e9;Cyrillic_IE 6e5;Cyrillic_IO 6b3;Cyrillic_JE 6b8;Cyrillic_KA 6eb;Cyrillic_LJE 6b9;Cyrillic_NJE 6ba
        Cyrillic_O 6ef;Cyrillic_PE 6f0;Cyrillic_SHA 6fb;Cyrillic_SHCHA 6fd;Cyrillic_SHORTI 6ea;Cyrillic_SOFTSIGN 6f8;Cyrillic_TE 6f4
        Cyrillic_TSE 6e3;Cyrillic_U 6f5;Cyrillic_VE 6f7;Cyrillic_YA 6f1;Cyrillic_YERU 6f9;Cyrillic_YU 6e0;Cyrillic_ZE 6fa;Cyrillic_ZHE 6f6
        Cyrillic_a 6c1;Cyrillic_be 6c2;Cyrillic_che 6de;Cyrillic_de 6c4;Cyrillic_dzhe 6af;Cyrillic_e 6dc;Cyrillic_ef 6c6;Cyrillic_el 6cc
        Cyrillic_em 6cd;Cyrillic_en 6ce;Cyrillic_er 6d2;Cyrillic_es 6d3;Cyrillic_ghe 6c7;Cyrillic_ha 6c8;Cyrillic_hardsign 6df;Cyrillic_i 6c9
        Cyrillic_ie 6c5;Cyrillic_io 6a3;Cyrillic_je 6a8;Cyrillic_ka 6cb;Cyrillic_lje 6a9;Cyrillic_nje 6aa;Cyrillic_o 6cf;Cyrillic_pe 6d0
        Cyrillic_sha 6db;Cyrillic_shcha 6dd;Cyrillic_shorti 6ca;Cyrillic_softsign 6d8;Cyrillic_te 6d4;Cyrillic_tse 6c3;Cyrillic_u 6d5
        Cyrillic_ve 6d7;Cyrillic_ya 6d1;Cyrillic_yeru 6d9;Cyrillic_yu 6c0;Cyrillic_ze 6da;Cyrillic_zhe 6d6;Delete ffff;Down ff54;Dstroke 1d0;ENG 3bd
        ETH d0;EZH 10001b7;Eabovedot 3cc;Eacute c9;Egrave c8;Eisu_toggle ff30;Emacron 3aa;End ff57;Eogonek 1ca;Escape ff1b;EuroSign 20ac
        Execute ff62;F1 ffbe;F10 ffc7;F11 ffc8;F12 ffc9;F2 ffbf;F3 ffc0;F4 ffc1;F5 ffc2;F6 ffc3;F7 ffc4;F8 ffc5;F9 ffc6;Find ff68;Gbreve 2ab
        Gcedilla 3ab;Greek_OMEGA 7d9;Greek_PI 7d0;Greek_mu 7ec;Greek_pi 7f0;Help ff6a;Henkan_Mode ff23;Hiragana ff25;Hiragana_Katakana ff27
        Home ff50;Hstroke 2a1;ISO_Left_Tab fe20;ISO_Level3_Latch fe04;ISO_Level3_Shift fe03;Iabovedot 2a9;Iacute cd;Icircumflex ce;Idiaeresis cf
        Igrave cc;Imacron 3cf;Insert ff63;Iogonek 3c7;KP_0 ffb0;KP_1 ffb1;KP_2 ffb2;KP_3 ffb3;KP_4 ffb4;KP_5 ffb5;KP_6 ffb6;KP_7 ffb7;KP_8 ffb8
        KP_9 ffb9;KP_Add ffab;KP_Begin ff9d;KP_Decimal ffae;KP_Delete ff9f;KP_Divide ffaf;KP_Down ff99;KP_End ff9c;KP_Enter ff8d;KP_Equal ffbd
        KP_Home ff95;KP_Insert ff9e;KP_Left ff96;KP_Multiply ffaa;KP_Next ff9b;KP_Prior ff9a;KP_Right ff98;KP_Separator ffac;KP_Subtract ffad
        KP_Up ff97;Kcedilla 3d3;Lcedilla 3a6;Left ff51;Linefeed ff0a;Lstroke 1a3;Macedonia_DSE 6b5;Macedonia_GJE 6b2;Macedonia_KJE 6bc
        Macedonia_dse 6a5;Macedonia_gje 6a2;Macedonia_kje 6ac;Menu ff67;Meta_L ffe7;Meta_R ffe8;Mode_switch ff7e;Muhenkan ff22;Multi_key ff20
        Nacute 1d1;Ncedilla 3d1;Next ff56;Ntilde d1;Num_Lock ff7f;OE 13bc;Oacute d3;Ocircumflex d4;Odiaeresis d6;Odoubleacute 1d5;Ograve d2
        Omacron 3d2;Ooblique d8;Oslash d8;Page_Down ff56;Page_Up ff55;Pause ff13;Print ff61;Prior ff55;Rcedilla 3a3;Redo ff66;Return ff0d;Right ff53
        SCHWA 100018f;Sacute 1a6;Scaron 1a9;Scedilla 1aa;Scroll_Lock ff14;Shift_L ffe1;Shift_R ffe2;Super_L ffeb;Super_R ffec;Sys_Req ff15;THORN de
        Tab ff09;Thai_baht ddf;Thai_bobaimai dba;Thai_chochan da8;Thai_chochang daa;Thai_choching da9;Thai_chochoe dac;Thai_dochada dae
        Thai_dodek db4;Thai_fofa dbd;Thai_fofan dbf;Thai_hohip dcb;Thai_honokhuk dce;Thai_khokhai da2;Thai_khokhon da5;Thai_khokhuat da3
        Thai_khokhwai da4;Thai_khorakhang da6;Thai_kokai da1;Thai_lakkhangyao de5;Thai_lekchet df7;Thai_lekha df5;Thai_lekhok df6;Thai_lekkao df9
        Thai_leknung df1;Thai_lekpaet df8;Thai_leksam df3;Thai_leksi df4;Thai_leksong df2;Thai_leksun df0;Thai_lochula dcc;Thai_loling dc5
        Thai_lu dc6;Thai_maichattawa deb;Thai_maiek de8;Thai_maihanakat dd1;Thai_maitaikhu de7;Thai_maitho de9;Thai_maitri dea;Thai_maiyamok de6
        Thai_moma dc1;Thai_ngongu da7;Thai_nikhahit ded;Thai_nonen db3;Thai_nonu db9;Thai_oang dcd;Thai_paiyannoi dcf;Thai_phinthu dda
        Thai_phophan dbe;Thai_phophung dbc;Thai_phosamphao dc0;Thai_popla dbb;Thai_rorua dc3;Thai_ru dc4;Thai_saraa dd0;Thai_saraaa dd2
        Thai_saraae de1;Thai_saraaimaimalai de4;Thai_saraaimaimuan de3;Thai_saraam dd3;Thai_sarae de0;Thai_sarai dd4;Thai_saraii dd5;Thai_sarao de2
        Thai_sarau dd8;Thai_saraue dd6;Thai_sarauee dd7;Thai_sarauu dd9;Thai_sorusi dc9;Thai_sosala dc8;Thai_soso dab;Thai_sosua dca
        Thai_thanthakhat dec;Thai_thonangmontho db1;Thai_thophuthao db2;Thai_thothahan db7;Thai_thothan db0;Thai_thothong db8;Thai_thothung db6
        Thai_topatak daf;Thai_totao db5;Thai_wowaen dc7;Thai_yoyak dc2;Thai_yoying dad;Tslash 3ac;Uacute da;Ucircumflex db;Udiaeresis dc
        Udoubleacute 1db;Ugrave d9;Umacron 3de;Undo ff65;Uogonek 3d9;Up ff52;VoidSymbol ffffff;XF86AudioLowerVolume 1008ff11;XF86AudioMedia 1008ff32
        XF86AudioMute 1008ff12;XF86AudioNext 1008ff17;XF86AudioPause 1008ff31;XF86AudioPlay 1008ff14;XF86AudioPrev 1008ff16
        XF86AudioRaiseVolume 1008ff13;XF86AudioStop 1008ff15;XF86Back 1008ff26;XF86Calculator 1008ff1d;XF86Copy 1008ff57;XF86Cut 1008ff58
        XF86Eject 1008ff2c;XF86Favorites 1008ff30;XF86Forward 1008ff27;XF86HomePage 1008ff18;XF86Mail 1008ff19;XF86MenuKB 1008ff65
        XF86MyComputer 1008ff33;XF86Open 1008ff6b;XF86Paste 1008ff6d;XF86PowerOff 1008ff2a;XF86Reload 1008ff73;XF86Sleep 1008ff2f
        XF86WakeUp 1008ff2b;Zabovedot 1af;Zacute 1ac;Zcaron 1ae;Zenkaku_Hankaku ff2a;aacute e1;abovedot 1ff;acircumflex e2;acute b4;adiaeresis e4
        ae e6;agrave e0;amacron 3e0;ampersand 26;aogonek 1b1;apostrophe 27;approxeq 1002248;aring e5;asciicircum 5e;asciitilde 7e;asterisk 2a;at 40
        backslash 5c;bar 7c;braceleft 7b;braceright 7d;bracketleft 5b;bracketright 5d;breve 1a2;brokenbar a6;cacute 1e6;caron 1b7;ccaron 1e8
        ccedilla e7;cedilla b8;cent a2;colon 3a;comma 2c;copyright a9;currency a4;dead_abovedot fe56;dead_abovering fe58;dead_acute fe51
        dead_belowcomma fe6e;dead_belowdot fe60;dead_belowmacron fe68;dead_breve fe55;dead_caron fe5a;dead_cedilla fe5b;dead_circumflex fe52
        dead_diaeresis fe57;dead_doubleacute fe59;dead_grave fe50;dead_hook fe61;dead_horn fe62;dead_macron fe54;dead_ogonek fe5c;dead_stroke fe63
        dead_tilde fe53;degree b0;diaeresis a8;division f7;dollar 24;doubleacute 1bd;doublelowquotemark afe;downarrow 8fe;dstroke 1f0;eabovedot 3ec
        eacute e9;ecaron 1ec;egrave e8;ellipsis aae;emacron 3ba;emdash aa9;endash aaa;eng 3bf;eogonek 1ea;equal 3d;eth f0;exclam 21;exclamdown a1
        ezh 1000292;fiveeighths ac5;gbreve 2bb;gcedilla 3bb;grave 60;greater 3e;greaterthanequal 8be;guillemotleft ab;guillemotright bb
        horizconnector 8a3;hstroke 2b1;hyphen ad;iacute ed;icircumflex ee;idiaeresis ef;idotless 2b9;igrave ec;imacron 3ef;infinity 8c2;iogonek 3e7
        kcedilla 3f3;kra 3a2;lcedilla 3b6;leftarrow 8fb;leftdoublequotemark ad2;leftsinglequotemark ad0;less 3c;lessthanequal 8bc;logicaland 8de
        logicalor 8df;lstroke 1b3;macron af;masculine ba;minus 2d;mu b5;multiply d7;nacute 1f1;ncedilla 3f1;nobreakspace a0;notequal 8bd;notsign ac
        ntilde f1;numbersign 23;numerosign 6b0;oacute f3;ocircumflex f4;odiaeresis f6;odoubleacute 1f5;oe 13bd;ogonek 1b2;ograve f2;omacron 3f2
        oneeighth ac3;onehalf bd;onequarter bc;onesuperior b9;ordfeminine aa;oslash f8;paragraph b6;parenleft 28;parenright 29;percent 25;period 2e
        periodcentered b7;permille ad5;plus 2b;plusminus b1;question 3f;questiondown bf;quotedbl 22;rcaron 1f8;rcedilla 3b3;registered ae
        rightarrow 8fd;rightdoublequotemark ad3;rightsinglequotemark ad1;sacute 1b6;scaron 1b9;scedilla 1ba;schwa 1000259;section a7;semicolon 3b
        seveneighths ac6;singlelowquotemark afd;slash 2f;space 20;ssharp df;sterling a3;thorn fe;threeeighths ac4;threequarters be;threesuperior b3
        trademark ac9;tslash 3bc;twosuperior b2;uacute fa;ucircumflex fb;udiaeresis fc;udoubleacute 1fb;ugrave f9;umacron 3fe;underscore 5f
        uogonek 3f9;uparrow 8fc;uring 1f9;yacute fd;ydiaeresis ff;yen a5;zabovedot 1bf;zacute 1bc;zcaron 1be
        """
}
