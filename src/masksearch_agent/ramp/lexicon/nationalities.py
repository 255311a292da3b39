"""Words for nations: what a definition says of somebody's nationality, and the names of countries."""

from __future__ import annotations

__all__ = ("COUNTRIES", "NATIONALITIES")

_NATIONALITIES = """
    Afghan Albanian Algerian American Angolan Argentine Argentinian Armenian Australian Austrian Azerbaijani
    Bahamian Bangladeshi Barbadian Belarusian Belgian Beninese Bolivian Bosnian Brazilian British Bulgarian
    Burmese Cambodian Cameroonian Canadian Chilean Chinese Colombian Congolese Croatian Cuban Cypriot Czech
    Czechoslovak Danish Dutch Ecuadorian Egyptian English Estonian Ethiopian Fijian Filipino Finnish French
    Gabonese Gambian Georgian German Ghanaian Greek Guatemalan Guinean Haitian Honduran Hungarian Icelandic
    Indian Indonesian Iranian Iraqi Irish Israeli Italian Ivorian Jamaican Japanese Jordanian Kazakh
    Kazakhstani Kenyan Kosovar Kuwaiti Kyrgyz Laotian Latvian Lebanese Liberian Libyan Lithuanian
    Luxembourgish Macedonian Malagasy Malawian Malaysian Maldivian Malian Maltese Mauritian Mexican Moldovan
    Mongolian Montenegrin Moroccan Mozambican Namibian Nepalese Nicaraguan Nigerian Norwegian Omani Ottoman
    Pakistani Palestinian Panamanian Paraguayan Peruvian Polish Portuguese Prussian Qatari Romanian Russian
    Rwandan Salvadoran Samoan Saudi Scottish Senegalese Serbian Singaporean Slovak Slovene Slovenian Somali
    Soviet Spanish Sudanese Swedish Swiss Syrian Taiwanese Tanzanian Thai Tongan Tunisian Turkish Ugandan
    Ukrainian Uruguayan Uzbek Venezuelan Vietnamese Welsh Yemeni Yugoslav Zambian Zimbabwean
"""
NATIONALITIES = frozenset(_NATIONALITIES.split())

_COUNTRIES = """
    Afghanistan; Albania; Algeria; Angola; Argentina; Armenia; Australia; Austria; Azerbaijan; Bangladesh; Belarus;
    Belgium; Benin; Bhutan; Bolivia; Bosnia and Herzegovina; Botswana; Brazil; Bulgaria; Burkina Faso; Burundi;
    Cambodia; Cameroon; Canada; Chad; Chile; China; Colombia; Costa Rica; Croatia; Cuba; Cyprus; Czech Republic;
    Denmark; Ecuador; Egypt; El Salvador; Eritrea; Estonia; Ethiopia; Fiji; Finland; France; Gabon; Germany; Ghana;
    Greece; Guatemala; Haiti; Honduras; Hungary; Iceland; India; Indonesia; Iran; Iraq; Ireland; Israel; Italy;
    Ivory Coast; Jamaica; Japan; Kazakhstan; Kenya; Kosovo; Kuwait; Kyrgyzstan; Laos; Latvia; Lebanon; Liberia;
    Libya; Lithuania; Luxembourg; Madagascar; Malawi; Malaysia; Mali; Malta; Mexico; Moldova; Mongolia; Montenegro;
    Morocco; Mozambique; Myanmar; Namibia; Nepal; Netherlands; New Zealand; Nicaragua; Niger; Nigeria; North Korea;
    Norway; Oman; Pakistan; Panama; Papua New Guinea; Paraguay; Peru; Philippines; Poland; Portugal; Qatar; Romania;
    Russia; Rwanda; Saudi Arabia; Senegal; Serbia; Slovakia; Slovenia; Somalia; South Africa; South Korea; Spain;
    Sri Lanka; Sudan; Sweden; Switzerland; Syria; Taiwan; Tajikistan; Tanzania; Thailand; Togo; Tunisia; Turkey;
    Turkmenistan; Uganda; Ukraine; United Kingdom; United States; Uruguay; Uzbekistan; Venezuela; Vietnam; Yemen;
    Zambia; Zimbabwe
"""
COUNTRIES = tuple(name.strip() for name in _COUNTRIES.split(";"))
