"""Texts of our own wording, by the fault that they have: what the quality floors are measured on."""

BOILERPLATE = tuple(
    """
Click here for details|Tap to zoom|Click image to view full screen|Hover to magnify|Swipe for next picture|Press play to start
Add to basket|Add to wishlist|Order today, get free delivery|Shop the new collection now|Only $19.99 while stocks last!
Cheap watches wholesale outlet online store|BEST PRICE LAPTOPS SALE 50% DISCOUNT|Buy one get one free!|Limited time offer - save 30%
discount handbags replica designer free shipping|Hotels deals book now lowest price guaranteed|Get your free quote today
In stock, ships within 24 hours|Sold out|20% off coupon code|Customer reviews and ratings|Payment methods Visa Mastercard PayPal
Sign up for our newsletter|Subscribe now|Follow us on Instagram|Like us on Facebook|Tweet this|Pin it|Share this post|Join us on Twitter
Log in to comment|Leave a reply|Back to top|Next page|Previous slide|Go to homepage|Skip to main content|Main menu|Search button|Close
Toggle navigation|Open menu|Home » Blog » Archive|Continue reading →|Learn more|See all posts|Load more|Show details
Read the full article|Find out more about our services|View all|View gallery|Watch the video|Download PDF|Download our app from the App Store
All rights reserved|Copyright 2021 Acme Ltd|(c) 2015 by the author|© Getty Images|Terms of use and privacy policy|Cookie policy
This site uses cookies|Photo credit: Jane Miller|Photo by Alex Turner on Unsplash|Image courtesy of the museum press office
Picture: Reuters/Tom Hall|Source: Shutterstock|Stock photo|iStockphoto|Courtesy of NASA|Image: AFP|Royalty free stock image
picture|photo|img|pic|Photo of the|image of a|an image|Figure|Fig. 3|Icon|banner|header image|Background image|featured image|cover photo
Company logo|Site logo|logo of the brand|placeholder|Image placeholder|No image available|Image not found|untitled|default|null|undefined|none
spacer|blank|avatar|User avatar|profile picture|alt text|insert description here|Lorem ipsum dolor sit amet|test image|sample|ads|Sponsored
Sponsored content|banner ad|Ad|https://shop.example.org/item?id=12|www.some-site.com|visit example.net|info@example.org|&amp;nbsp;&amp;nbsp;
&lt;br&gt;|<b></b>|&#160;|{{ image.alt }}|---|*|?|!!!|. . .|– –|1|3 / 10|1 of 12|photo gallery|slideshow|Page 2|loading...|Please wait
404 error page not found|Your browser does not support the video tag|Accept all cookies|Enter your email address|Forgot your password?
something|a nice thing|various|Click to enlarge this photo|larger version|Enlarge|zoom in|More|Details|Advertisement - continue below|tracking pixel
RSS feed|Print this page|Email a friend|Contact us for a free quote|Book online today|Call now|Made in China factory price supplier
""".strip().replace("\n", "|").split("|")
) + ("Home | Products | Contact",)

FILENAMES = tuple(
    """
IMG_0042.JPG|IMG_20190801_121314.jpg|DSC_0917.NEF|DSC00017|DSCN1234|DSCF0098.JPG|P1010337.JPG|PXL_20220301_101112345.jpg|MVIMG_20190101_000000
GOPR0123.JPG|DJI_0456|100_2345.jpg|CIMG0815.jpg|SAM_0004|20200517_184502|20200517_184502.jpg|Screenshot 2021-03-04 at 10.20.30
Screen Shot 2018-07-01 at 5.06.07 PM.png|Screenshot_20200101-101010_Chrome|screenshot-2|WhatsApp Image 2020-05-05 at 13.14.15|Snapchat-1234567
received_10155512345|FB_IMG_1512345678901|unnamed (3)|unnamed.png|Untitled-1|Untitled-2.psd|untitled design (4)|image001.png|image (2)
photo_2021-02-03_04-05-06|Copy of IMG_4411|IMG 4411 copy|DSC 0012 (2).JPG|scan0003.tif|Scan 2014-05-06|banner-1200x400|hero-image-1024x768
header_final_v2.png|team-photo-scaled|beach-scaled.jpeg|logo-white.svg|product_12345_large|thumb_987654|img12|pic_07|photo 4411|4b825dc642cb6eb9a060e54bf8d69288
550e8400-e29b-41d4-a716-446655440000|a94a8fe5ccb19ba61c4c0873d391e987982fbbd3.jpg|/wp-content/uploads/2018/05/garden.jpg|uploads/2019/lake|assets\\images\\hero
31415926535_b1e2c3d4f5_o|3456789012_abcdef0123_b.jpg|new-kitchen-2017-03.webp|sunset_beach_final_edit|smiling-family-at-home.jpg|tmp1a2b3c4d
DSC01234 beach|6543210|me.jpeg|Foto 12.jpg|Bild_003|My Summer Photo 12.JPG|s-l1600.jpg|71abcDEF1L._AC_SL1500_.jpg
""".strip().replace("\n", "|").split("|")
)

FOREIGN = {
    "de": ("Ein alter Mann sitzt auf einer Bank", "Hund am Strand", "Zwei Kinder spielen im Schnee", "Rotes Auto vor dem Haus", "Blick auf die Altstadt", "Schwarze Katze"),
    "nl": ("Een hond rent over het gras", "Twee mannen op een fiets", "Kinderen spelen in het water", "Uitzicht over de stad", "Witte kat"),
    "af": ("Die hond hardloop op die strand", "Twee kinders speel in die tuin", "'n Man sit op 'n bankie"),
    "fy": ("In jonge rint oer it strân", "Twa hûnen boartsje yn it wetter", "De frou sit by it finster"),
    "da": ("En hund løber gennem sneen", "To drenge spiller fodbold", "Kvinde med en rød jakke", "Udsigt over havnen"),
    "no": ("En mann går tur i skogen", "To jenter leker på stranden", "Hund i snøen"),
    "sv": ("En pojke hoppar i vattnet", "Två hundar springer på gräset", "Utsikt över sjön", "Röd stuga"),
    "is": ("Maður gengur á fjall", "Hundur hleypur í snjónum"),
    "fi": ("Koira juoksee rannalla", "Kaksi lasta leikkii puistossa", "Punainen talo metsässä"),
    "et": ("Koer jookseb rannas", "Kaks last mängivad aias"),
    "fr": ("Un chien court sur la plage", "Deux enfants jouent dans la neige", "Vue sur la mer", "Chat noir", "Femme au chapeau rouge"),
    "es": ("Un perro corre por la playa", "Dos niños juegan en el parque", "Vista del mar", "Gato negro", "Hombre con sombrero"),
    "pt": ("Um cachorro corre na praia", "Duas meninas brincam na areia", "Vista da cidade", "Homem de chapéu"),
    "it": ("Un cane corre sulla spiaggia", "Due bambini giocano a palla", "Vista sul lago", "Gatto nero"),
    "ca": ("Un gos corre per la platja", "Dues nenes juguen al parc"),
    "gl": ("Un can corre pola praia", "Dous nenos xogan na rúa"),
    "ro": ("Un câine aleargă pe plajă", "Doi copii se joacă în parc", "Biserica din sat"),
    "pl": ("Pies biegnie po plaży", "Dwoje dzieci bawi się w śniegu", "Widok na morze", "Czarny kot"),
    "cs": ("Pes běží po pláži", "Dvě děti si hrají na zahradě", "Pohled na město"),
    "sk": ("Dievča sedí na lavičke", "Muž na bicykli"),
    "hu": ("Egy kutya fut a parton", "Két gyerek játszik a hóban", "Piros autó"),
    "sl": ("Pes teče po plaži", "Otrok se igra z žogo"),
    "hr": ("Dječak trči po plaži", "Pogled na more", "Crna mačka"),
    "lt": ("Šuo bėga paplūdimiu", "Du vaikai žaidžia kieme"),
    "lv": ("Suns skrien pa pludmali", "Divi bērni spēlējas parkā"),
    "tr": ("Bir köpek sahilde koşuyor", "İki çocuk parkta oynuyor", "Kırmızı araba", "Deniz manzarası"),
    "id": ("Seekor anjing berlari di pantai", "Dua anak bermain di taman", "Mobil merah", "Pemandangan kota"),
    "ms": ("Seorang lelaki duduk di bangku", "Kucing hitam di atas meja"),
    "tl": ("Isang aso ang tumatakbo sa dalampasigan", "Dalawang bata ang naglalaro", "Lalaki na may sombrero"),
    "sw": ("Mbwa anakimbia ufukweni", "Watoto wawili wanacheza", "Mwanamke amevaa kofia"),
    "vi": ("Một con chó chạy trên bãi biển", "Hai đứa trẻ chơi trong công viên", "Xe màu đỏ"),
    "cy": ("Mae ci yn rhedeg ar y traeth", "Dau blentyn yn chwarae"),
    "ga": ("Tá madra ag rith ar an trá",),
    "eu": ("Txakur bat hondartzan korrika",),
    "sq": ("Një qen vrapon në plazh", "Dy fëmijë luajnë në park"),
    "ru": ("Собака бежит по пляжу", "Красная машина"),
    "uk": ("Діти граються у дворі",),
    "el": ("Ένας σκύλος τρέχει στην παραλία",),
    "ar": ("كلب يجري على الشاطئ",),
    "he": ("כלב רץ על החוף",),
    "hi": ("कुत्ता समुद्र तट पर दौड़ रहा है",),
    "th": ("สุนัขวิ่งบนชายหาด",),
    "ja": ("公園で遊ぶ二人の子供", "赤い車"),
    "zh": ("一只狗在沙滩上奔跑", "红色汽车"),
    "ko": ("강아지가 해변을 달린다",),
}

FAITHFUL = tuple(
    """
Two dogs running|Eiffel Tower at night|Portrait of Marie Curie|3 men on a boat|No. 7 shirt on a hanger|A man reading a book about shoes at a shop sale
Woman clicking a camera|a sign that says Buy Now|A boy plays with a toy phone|The front page of an old newspaper on a table|People shopping for fruit at a market
An old computer screen on a desk|A woman searches through her bag|Children play on a slide|A store front with a red door|Man selling flowers on the street
A child watching television|A girl holds a picture of her dog|Photo of a sleeping cat|Close up of a bee on a flower|View of the harbour from a hill
Picture of a red bicycle leaning against a wall|Black and white photograph of a steam train|Aerial view of rice fields|A dog jumps over a bar
The Golden Gate Bridge in fog|Chicken soup with noodles|Apple pie on a plate|Swedish pancakes with jam|A bowl of chili|Fried rice|Tuna salad
President Lincoln sitting in a chair|Queen Elizabeth waving to the crowd|Mount Fuji behind a lake|Serena Williams hits the ball|Street musician in Prague
A snowboarder in mid air|Skier going downhill|Boy in blue shorts jumps into pool|Brown horse eats grass|Red car parked outside|Surfer rides a wave
A group of people at the annual parade|Our dog asleep on the sofa|My grandmother in her garden in 1952|Two women talk on a bench while a man walks by
Football players shake hands after the match|A man in a suit gives a speech|A woman in a red coat rides her bike through the city|Wedding couple kissing
Baby in a stroller|A firefighter holding a hose|Kids on a carousel|A woman with a shopping cart|A man opening a box|Hikers read a map|A man pointing at a sign
Cyclist on a mountain road|Three people wearing helmets|Children look at a laptop|Bride and groom cutting the cake|A cat looking out of a window|Tall ship at sea
Dog catching a frisbee|Lighthouse on a rocky coast|A tram in Lisbon|The new bridge under construction|An elderly couple dancing|Tourists take pictures of a statue
A bald man drinks beer|Snow on pine trees|Hot air balloons at sunrise|Blue butterfly|A goalkeeper saves a shot|Girl with a pearl earring|Taj Mahal
A person in a kayak paddles down the rapids|A toddler eats spaghetti|Lions resting in the shade|Traffic on a wet street at night|A welder at work
""".strip().replace("\n", "|").split("|")
)
